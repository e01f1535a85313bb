"""Keys and signatures for tests: made as `edge-aae keys make` and `edge-aae sign` make them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="cryptography is not installed")

from edge_runtime.signing.keys import SigningKey, make_keys, read_signing_key
from edge_runtime.signing.signatures import write_signatures


def key_of(stem: Path) -> SigningKey:
    """The private key STEM.key, without a passphrase; made with STEM.pub where there is none."""
    file = stem.with_name(f"{stem.name}.key")
    if not file.exists():
        make_keys(stem, None)
    return read_signing_key(file, lambda: pytest.fail("a passphrase is asked for"))


def signed(bundle: Path, stem: Path) -> Path:
    """Sign a bundle by the key STEM.key; gives STEM.pub."""
    write_signatures(bundle, [key_of(stem).sign(bundle.read_bytes())])
    return stem.with_name(f"{stem.name}.pub")
