"""Files of signing keys, and files that are not keys; needs the extra `sign`."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

PEM = serialization.Encoding.PEM


def _private(key, encryption=None):
    encryption = encryption or serialization.NoEncryption()
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption)


def _public(key):
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(PEM, public)


def write_keys(folder):
    """Write private.pem and public.pem of one key, other.pem of another, and other files."""
    own, other = (ed25519.Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
    strange = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    files = {
        "private.pem": _private(own),
        "public.pem": _public(own),
        "other.pem": _public(other),
        "locked.pem": _private(own, serialization.BestAvailableEncryption(b"secret")),
        "rsa.pem": _private(strange),
        "rsa_public.pem": _public(strange),
        "empty.pem": b"",
        "long.pem": _public(own) + b"x" * 2**17,
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder
