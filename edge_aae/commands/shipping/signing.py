"""`edge-aae sign` and `edge-aae keys`: who made a bundle, said by a signature beside it."""

from __future__ import annotations

from pathlib import Path

import click

from edge_aae.commands.help_pages import Command, Group
from edge_aae.commands.key_files import passphrase_for, signing_key
from edge_aae.commands.options import resolve_model
from edge_aae.commands.places import bundle_argument
from edge_aae.commands.shipping.export import check_as_run
from edge_aae.commands.terminal import say
from edge_runtime.errors import BundleError

__all__ = ["keys", "sign"]

FILE = click.Path(path_type=Path)


@click.command(cls=Command, short_help="Sign a bundle that is there: BUNDLE.sig beside it.")
@bundle_argument
@click.option("--key", required=True, type=FILE, help="The private key, such as release.key.")
@click.option("--keep", is_flag=True, help="Leave signatures by other keys that lie there beside this one.")
def sign(model: Path | None, key: Path, keep: bool) -> None:
    """Sign BUNDLE (default: as for run), an .aae file: the signature is written beside it, as BUNDLE.sig.

    The bundle is checked as `info` checks it, and the very bytes that were checked are signed. A key with a passphrase
    asks for it, or takes it from $EDGE_AAE_KEY_PASSPHRASE.

    \b
    edge-aae sign model.aae --key release.key
    """
    from edge_runtime.archive import read_archive
    from edge_runtime.bundle.bundle import Bundle
    from edge_runtime.signing.signatures import read_signatures, signature_path, write_signatures

    path = resolve_model(model)
    if path.is_dir():
        raise BundleError(
            f"{path} is a folder, and a signature is of an .aae file; export it as one with --out NAME.aae"
        )
    opened_key = signing_key(key)
    archive = read_archive(path)
    opened = Bundle.from_archive(archive, path)
    check_as_run(opened)
    signature = opened_key.sign(archive)
    others = []
    if keep and signature_path(path).exists():
        others = [other for other in read_signatures(path) if other.key_id != signature.key_id]
    written = write_signatures(path, [signature, *others])
    beside = f", beside {', '.join(other.name for other in others)}" if others else ""
    say(f"wrote {written}: {path}, model sha256:{opened.digest[:12]}, signed by {signature.name}{beside}")


@click.group(cls=Group, short_help="Make keys that sign bundles, and list those that are trusted.")
def keys() -> None:
    """Make keys that sign bundles, and list those that are trusted.

    \b
    edge-aae keys make release
    edge-aae keys list release.pub
    """


@keys.command("make", short_help="Make a pair: NAME.key signs, NAME.pub is for devices.")
@click.argument("name", type=FILE)
@click.option("--passphrase", is_flag=True, help="Ask for one, or take $EDGE_AAE_KEY_PASSPHRASE, and encrypt the key.")
def make(name: Path, passphrase: bool) -> None:
    """Make a pair of Ed25519 keys: NAME.key, private, with mode 0600, and NAME.pub. No file is ever replaced."""
    from edge_runtime.signing.keys import make_keys

    secret = passphrase_for(f"passphrase for {name}.key", confirm=True).encode("utf-8") if passphrase else None
    public = make_keys(name, secret)
    locked = "with a passphrase" if secret else "without a passphrase: whoever reads it can sign"
    say(f"wrote {name}.key (private, mode 0600, {locked}) and {public.file}")
    say(f"key ed25519:{public.key_id}")
    say(f"next: edge-aae export --sign {name}.key; devices get {public.file} alone")


@keys.command("list", short_help="List the public keys in a file or folder.")
@click.argument("path", type=FILE)
def list_keys(path: Path) -> None:
    """List the public keys in PATH, a .pub file or a folder of such, as --require-signature takes them."""
    from edge_runtime.signing.keys import read_public_keys

    for key in read_public_keys(path):
        say(f"ed25519:{key.key_id}  {key.file}")
