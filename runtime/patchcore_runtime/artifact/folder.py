"""An artifact folder: names of its files, their checksums, its manifest and memory bank.

folder -> Artifact, or ArtifactError naming the file. The folder is only read; artifacts/FORMAT.md
defines it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from patchcore_runtime.artifact.private import PrivateCopy
from patchcore_runtime.artifact.signature import check_signature
from patchcore_runtime.artifact.sums import parse_sums
from patchcore_runtime.bank.memory_bank import BankShape, MemoryBank, read_memory_bank
from patchcore_runtime.errors import ArtifactError, SettingError
from patchcore_runtime.files.regular import open_regular, read_regular, refuse_link_out
from patchcore_runtime.image.region import Region, stored_region
from patchcore_runtime.manifest.manifest import IndexKind, Manifest, parse_manifest

if TYPE_CHECKING:
    from patchcore_runtime.image.thumbnails import Thumbnail

MANIFEST = "manifest.json"
FEATURES_ONNX = "features.onnx"
FEATURES_MINDIR = "features.mindir"
INDEX_ONNX = "index.onnx"
INDEX_MINDIR = "index.mindir"
INDEX_HNSW = "index.hnsw"
INDEX_FAISS = "index.faiss"
ROI = "roi.png"
THUMBNAILS = "thumbnails.bin"
MEMORY_BANK = "memory_bank.bin"
SELFTEST_IMAGE = "selftest.png"
SELFTEST_INPUT = "selftest_input.png"
SELFTEST_MAP = "selftest_map.npy"
SHA256SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"  # optional signature of SHA256SUMS

RUNTIME_FILES = (MANIFEST, FEATURES_ONNX, INDEX_ONNX, MEMORY_BANK)
SELFTEST_FILES = (SELFTEST_IMAGE, SELFTEST_INPUT, SELFTEST_MAP)
# The manifest decides which of these files exist.
OPTIONAL_FILES = (FEATURES_MINDIR, INDEX_MINDIR, INDEX_HNSW, INDEX_FAISS, ROI, THUMBNAILS)
ALL_FILES = (*RUNTIME_FILES, *SELFTEST_FILES, *OPTIONAL_FILES)
# The additional file of each kind of index; `exact` needs only index.onnx.
INDEX_FILES: dict[IndexKind, str] = {
    "hnsw": INDEX_HNSW,
    "faiss-flat": INDEX_FAISS,
    "faiss-ivfpq": INDEX_FAISS,
}

MAX_TEXT_BYTES = 2**26  # limit of manifest.json and of SHA256SUMS
_HASH_BLOCK = 2**20


@dataclass(frozen=True)
class Artifact:
    """A folder on disk, opened for reading; a given key must have signed the checksums."""

    folder: Path
    manifest: Manifest
    public_key: Path | None = None
    copy: PrivateCopy | None = field(default=None, repr=False, compare=False)  # owns the folder

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        verify: bool = True,
        public_key: str | Path | None = None,
        private: bool = False,
    ) -> "Artifact":
        """Load the manifest, and verify the files that scoring uses against SHA256SUMS.

        Args:
            folder: The artifact.
            verify: Compare checksums; `False` saves reading every byte once.
            public_key: PEM file of an ed25519 key that must have signed SHA256SUMS.
            private: Copy the files into a temporary folder first, and verify and load the copies.

        Raises:
            ArtifactError: a file is missing, altered, or of an unknown version; the subclass
                SignatureError if the key has not signed it.
            ProviderError: a key is given, but the extra `sign` is not installed.
            OutputError: the temporary folder cannot be written.
            SettingError: a key is given, or a private copy, but `verify` is off.
        """
        if not verify and (private or public_key is not None):
            raise SettingError("verify: expected True with a public_key or a private copy")
        artifact = cls._open(folder, public_key, private=private)
        if verify:
            artifact.verify(artifact.scoring_files)
        return artifact

    @classmethod
    def open_whole(
        cls,
        folder: str | Path,
        *,
        public_key: str | Path | None = None,
        private: bool = False,
    ) -> "Artifact":
        """Load a folder and verify all of its files, before another artifact is made of it.

        Args:
            folder: The artifact.
            public_key: PEM file of the ed25519 key that must have signed the checksums.
            private: As in `open`.

        Raises:
            ArtifactError: the folder is damaged; the subclass SignatureError if the key has not
                signed it.
            ProviderError: a key is given, but the extra `sign` is not installed.
        """
        artifact = cls._open(folder, public_key, private=private)
        artifact.verify()
        return artifact

    @classmethod
    def _open(
        cls, folder: str | Path, public_key: str | Path | None, *, private: bool
    ) -> "Artifact":
        """Load the manifest, from a private copy if one is wanted."""
        folder = Path(folder)
        if not folder.is_dir():
            raise ArtifactError(f"{folder}: no such folder; expected a PatchCore artifact")
        copy = PrivateCopy(folder) if private else None
        if copy is not None:
            copy.take((MANIFEST, SHA256SUMS), required=True)
            copy.take((SIGNATURE,), required=False)
            folder = copy.folder
        path = folder / MANIFEST
        key = None if public_key is None else Path(public_key)
        if key is not None:
            verify_files(folder, (MANIFEST,), key)  # unsigned content is never parsed
        artifact = cls(folder, parse_manifest(_read_text(path), str(path)), key, copy)
        if copy is not None:
            used = artifact.scoring_files
            copy.take(used, required=True)
            copy.take((name for name in artifact.files if name not in used), required=False)
        return artifact

    @property
    def files(self) -> tuple[str, ...]:
        """Return every file of this artifact except SHA256SUMS."""
        return files_of(self.manifest)

    @property
    def scoring_files(self) -> tuple[str, ...]:
        """Return the files that scoring with onnxruntime uses."""
        own = INDEX_FILES.get(self.manifest.index.kind)
        masked = self.manifest.region.kind == "mask"
        return (*RUNTIME_FILES, *([own] if own else []), *([ROI] if masked else []))

    def path(self, name: str) -> Path:
        """Return the path of one of the files."""
        return self.folder / name

    @cached_property
    def memory_bank(self) -> MemoryBank:
        """Map the bank into memory and check its shape against the manifest.

        Raises:
            ArtifactError: header, size and manifest do not agree.
        """
        path = self.path(MEMORY_BANK)
        bank = read_memory_bank(path)
        manifest = self.manifest
        told = manifest.memory_bank
        channels = tuple(layer.channels for layer in manifest.features.layers)
        expected = BankShape(told.rows, told.neighbours, channels, told.precision)
        if bank.shape != expected:
            raise ArtifactError(
                f"{path}: (M, K, channels, precision): manifest.json says {tuple(expected)}, "
                f"the file has {tuple(bank.shape)}; "
                "the files belong to different artifacts, copy the folder again"
            )
        return bank

    @cached_property
    def region(self) -> Region | None:
        """Load the region of the input that counts; None if all of the input counts.

        Raises:
            ArtifactError: roi.png is damaged.
        """
        if self.manifest.region.kind == "whole":
            return None
        path = self.path(ROI)
        try:
            refuse_link_out(path)
        except OSError as error:
            raise ArtifactError(f"{path}: {error.strerror}; copy the folder again") from None
        manifest = self.manifest
        return stored_region(path, manifest.preprocess, patch_px=manifest.features.patch_px)

    @cached_property
    def thumbnails(self) -> "tuple[Thumbnail, ...]":
        """Load one thumbnail per training image, verified by SHA256SUMS; empty if none were kept.

        Raises:
            ArtifactError: thumbnails.bin is missing, altered, or does not match the manifest.
        """
        from patchcore_runtime.image.thumbnails import read_thumbnails

        if self.manifest.training.thumbnails == "none":
            return ()
        self.verify((THUMBNAILS,))
        return read_thumbnails(self.path(THUMBNAILS), len(self.manifest.training.images))

    def verify(self, names: Sequence[str] | None = None) -> None:
        """Compare files with SHA256SUMS; by default all files of the artifact.

        Raises:
            ArtifactError: a file is missing, altered or not listed in SHA256SUMS, or the key with
                which the artifact was opened has not signed SHA256SUMS.
        """
        verify_files(self.folder, self.files if names is None else names, self.public_key)


def verify_files(folder: Path, names: Sequence[str], public_key: Path | None) -> None:
    """Compare files of a folder with its SHA256SUMS, which a given key must have signed.

    Raises:
        ArtifactError: a file is missing, altered or not listed; the subclass SignatureError if the
            key has not signed the sums.
    """
    sums = _sums(folder / SHA256SUMS, public_key)
    for name in names:
        if name not in sums:
            raise ArtifactError(f"{folder / SHA256SUMS}: {name} is not listed; copy it again")
        got = file_digest(folder / name, own=True)
        if got != sums[name]:
            raise ArtifactError(
                f"{folder / name}: altered: SHA256SUMS says {sums[name][:12]}…, "
                f"the file has {got[:12]}…; copy the folder again"
            )


def _sums(path: Path, public_key: Path | None) -> dict[str, str]:
    """Return file name -> digest; with a key, from the same bytes whose signature was checked."""
    content = _read_bytes(path)
    if public_key is not None:
        check_signature(content, path, public_key)
    return parse_sums(content, path)


def files_of(manifest: Manifest) -> tuple[str, ...]:
    """Return the files of an artifact with that manifest, except SHA256SUMS."""
    optional = {
        FEATURES_MINDIR: manifest.features.mindir == "float32",
        INDEX_MINDIR: manifest.index.mindir_candidates > 0,
        INDEX_HNSW: INDEX_FILES.get(manifest.index.kind) == INDEX_HNSW,
        INDEX_FAISS: INDEX_FILES.get(manifest.index.kind) == INDEX_FAISS,
        ROI: manifest.region.kind == "mask",
        THUMBNAILS: manifest.training.thumbnails == "jpeg",
    }
    there = (name for name in OPTIONAL_FILES if optional[name])
    return (*RUNTIME_FILES, *SELFTEST_FILES, *there)


def file_digest(path: Path, *, own: bool = False) -> str:
    """Compute the SHA-256 of a file, in hex; with `own` a link out of its folder is refused.

    Raises:
        ArtifactError: the file cannot be read.
    """
    try:
        return hash_file(path, own=own)
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}; copy the folder again") from None


def hash_file(path: Path, *, own: bool = False) -> str:
    """Compute the SHA-256 of a file, in hex as sha256sum prints it; every failure is an OSError."""
    digest = hashlib.sha256()
    with open_regular(path, own=own) as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _read_text(path: Path) -> str:
    return _decode(path, _read_bytes(path))


def _read_bytes(path: Path) -> bytes:
    try:
        return read_regular(path, limit=MAX_TEXT_BYTES, own=True)
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}; copy the folder again") from None


def _decode(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path}: not UTF-8 ({error.reason}); copy it again") from None
