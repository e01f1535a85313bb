"""Whether an archive is one that a trusted key signed: asked of its bytes, before anything of them is looked at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.errors import BundleError
from edge_runtime.signing.keys import PublicKey, read_public_keys
from edge_runtime.signing.signatures import Signature, Signed, read_signatures, signature_path

__all__ = ["check_key", "checked_signature"]


def checked_signature(bundle: Path, archive: bytes, trusted: str | os.PathLike[str]) -> Signed:
    """The archive with the first of its signatures that a trusted key made for these very bytes.

    bundle: the path that it was read from; its signatures lie beside it. trusted: a file of public keys, or a folder of
    such; read anew each time, so that a key may come and go while a run goes on. Raises BundleError where there is no
    such signature, ConfigError where the keys cannot be read, MissingExtraError.
    """
    keys = _by_id(trusted)
    signatures = read_signatures(bundle)
    known = [signature for signature in signatures if signature.key_id in keys]
    for signature in known:
        if keys[signature.key_id].holds(signature, archive):
            return Signed(archive, signature)
    if known:
        raise BundleError(
            f"{bundle} does not match its signature by {keys[known[0].key_id]}: it was altered, cut short or exchanged "
            f"after it was signed; copy it and {signature_path(bundle).name} again"
        )
    raise _not_trusted(bundle, signatures, trusted, keys)


def check_key(bundle: Path, signature: Signature, trusted: str | os.PathLike[str]) -> None:
    """Raise BundleError where a signature that was found to hold is by none of the trusted keys."""
    keys = _by_id(trusted)
    if signature.key_id not in keys:
        raise _not_trusted(bundle, [signature], trusted, keys)


def _by_id(trusted: str | os.PathLike[str]) -> dict[str, PublicKey]:
    return {key.key_id: key for key in read_public_keys(Path(trusted))}


def _not_trusted(
    bundle: Path, signatures: Sequence[Signature], trusted: str | os.PathLike[str], keys: dict[str, PublicKey]
) -> BundleError:
    names = ", ".join(sorted({signature.name for signature in signatures}))
    ours = ", ".join(map(str, keys.values()))
    return BundleError(f"{bundle} is signed by {names}, which is not trusted here; {os.fspath(trusted)} has {ours}")
