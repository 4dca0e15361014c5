"""Sign an artifact: an ed25519 signature of the bytes of SHA256SUMS, stored in SHA256SUMS.sig.

private key (PEM) + artifact folder -> SHA256SUMS.sig in the folder. The same key and checksums give
the same bytes (RFC 8032). artifacts/FORMAT.md, section Signature, says what it proves.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from patchcore_runtime.artifact.folder import MAX_TEXT_BYTES, SHA256SUMS, SIGNATURE, Artifact
from patchcore_runtime.artifact.signature import import_cryptography, key_refusals, read_key_file
from patchcore_runtime.artifact.writing import new_folder
from patchcore_runtime.errors import OutputError, SignatureError
from patchcore_runtime.files.regular import read_regular
from patchcore_runtime.files.whole import write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class Signer:
    """A private key, read before any work begins."""

    def __init__(self, key: Path) -> None:
        """Read a key.

        Args:
            key: PEM file (PKCS #8) of an ed25519 private key without a passphrase, as
                `openssl genpkey -algorithm ed25519` writes it.

        Raises:
            SignatureError: the file is missing or holds something else.
            ProviderError: the extra `sign` is not installed here.
        """
        self._key = _read_private_key(key)

    def signature_of(self, folder: Path) -> bytes:
        """The content of SHA256SUMS.sig for the SHA256SUMS in a folder."""
        return self._key.sign(read_regular(folder / SHA256SUMS, limit=MAX_TEXT_BYTES, own=True))


@contextmanager
def new_signed_folder(target: Path, *, sign: Path | None) -> Iterator[Path]:
    """`new_folder` that is signed before it is renamed to its place, if a key is given.

    Args:
        target: The folder to create.
        sign: PEM file of the private key; it is read before the block begins.

    Raises:
        SignatureError: see `Signer`.
        OutputError: see `new_folder`.
    """
    signer = Signer(sign) if sign is not None else None
    with new_folder(target) as staging:
        yield staging
        if signer is not None:
            (staging / SIGNATURE).write_bytes(signer.signature_of(staging))


def sign_artifact(folder: Path, key: Path) -> Path:
    """Verify all checksums of an artifact, and add a signature; it must not have one.

    Returns:
        The new file.

    Raises:
        ArtifactError: the artifact is corrupt.
        SignatureError: see `Signer`.
        OutputError: the artifact is signed already, or cannot be written.
    """
    signer = Signer(key)
    path = folder / SIGNATURE
    if os.path.lexists(path):
        raise OutputError(f"{path}: exists already; remove it first to sign with another key")
    Artifact.open_whole(folder)
    write_whole(path, signer.signature_of(folder), sync=True)
    return path


def _read_private_key(path: Path) -> "Ed25519PrivateKey":
    serialization = import_cryptography(path)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        key = serialization.load_pem_private_key(read_key_file(path), password=None)
    except key_refusals():
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(
            f"{path}: expected an ed25519 private key in PEM without a passphrase, got "
            f"{'another kind of key' if key is not None else 'another file'}; "
            "`openssl genpkey -algorithm ed25519` makes one"
        )
    return key
