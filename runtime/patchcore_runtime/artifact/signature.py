"""SHA256SUMS.sig: an ed25519 signature (RFC 8032) over the bytes of SHA256SUMS.

public key (PEM) + sums + signature -> nothing, or SignatureError. Only checking a key needs the
extra `sign`, so its library is imported only then. artifacts/FORMAT.md, section Signature.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchcore_runtime.errors import ProviderError, SignatureError
from patchcore_runtime.files.regular import read_regular

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE_BYTES = 64
MAX_KEY_BYTES = 2**16  # the PEM file of an ed25519 key has about 120


def check_signature(sums: bytes, sums_path: Path, public_key: Path) -> None:
    """Refuse sums that the owner of the key has not signed.

    Args:
        sums: Content of SHA256SUMS; use these bytes afterwards, and do not read the file again.
        sums_path: Path of SHA256SUMS; the signature lies beside it, with `.sig` appended.
        public_key: PEM file.

    Raises:
        SignatureError: the signature is missing, malformed, by another key or of other sums; or
            the key is not an ed25519 public key.
        ProviderError: the extra `sign` is not installed.
    """
    key = read_public_key(public_key)
    path = sums_path.with_name(f"{sums_path.name}.sig")
    advice = "the artifact is not signed, or was copied in part"
    signature = _read(path, SIGNATURE_BYTES, advice, own=True)
    if len(signature) != SIGNATURE_BYTES:
        raise SignatureError(
            f"{path}: expected {SIGNATURE_BYTES} bytes of an ed25519 signature, got "
            f"{len(signature)}; copy the folder again"
        )
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, sums)
    except InvalidSignature:
        raise SignatureError(
            f"{path}: expected a signature of {sums_path.name} by {public_key}, got another; "
            "the artifact was altered or signed by somebody else: do not use it"
        ) from None


def read_public_key(path: Path) -> "Ed25519PublicKey":
    """Load an ed25519 public key from a PEM file; raises as `check_signature` does."""
    serialization = import_cryptography(path)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = serialization.load_pem_public_key(read_key_file(path))
    except key_refusals():
        key = None
    if not isinstance(key, Ed25519PublicKey):
        got = "another kind of key" if key is not None else "another file"
        raise SignatureError(f"{path}: expected an ed25519 public key in PEM, got {got}")
    return key


def key_refusals() -> tuple[type[Exception], ...]:
    """Return the exceptions that the library raises for files that it does not accept as a key."""
    from cryptography.exceptions import UnsupportedAlgorithm

    return (ValueError, TypeError, UnsupportedAlgorithm)


def import_cryptography(needed_for: Path) -> Any:
    """Import `serialization` of the library, which the lean wheel does not include.

    Raises:
        ProviderError: the library is not installed; the message names the extra.
    """
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise ProviderError(
            f"{needed_for}: keys need the library `cryptography`, which is not installed here; "
            "pip install 'patchcore-runtime[sign]'"
        ) from None
    return serialization


def read_key_file(path: Path) -> bytes:
    """Read a key file; raises SignatureError if it is missing or far too large."""
    return _read(path, MAX_KEY_BYTES, "pass a key in PEM", own=False)


def _read(path: Path, limit: int, advice: str, *, own: bool) -> bytes:
    try:
        return read_regular(path, limit=limit, own=own)
    except OSError as error:
        raise SignatureError(f"{path}: {error.strerror}; {advice}") from None
