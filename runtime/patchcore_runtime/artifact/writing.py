"""Write an artifact folder so that it appears whole or not at all, sealed by its checksums.

A staging folder beside the target is filled, sealed and renamed. artifacts/FORMAT.md, section
Folder.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from patchcore_runtime.artifact.folder import MANIFEST, SHA256SUMS, file_digest, files_of
from patchcore_runtime.errors import OutputError
from patchcore_runtime.files.staging import staging_folder
from patchcore_runtime.manifest.manifest import Index, Manifest

EXACT_INDEX = Index(kind="exact", effort=0, recall=1.0, score_change=0.0, mindir_candidates=0)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a staging folder beside `target`; rename it to `target` when the block succeeds.

    Raises:
        OutputError: the target exists, cannot be written, or the disk is full. If the block fails,
            the staging folder and the parents created for it are removed.
    """
    missing: list[Path] = []
    try:
        if target.exists():
            raise OutputError(
                f"{target}: exists already; choose another --output, or remove this folder first"
            )
        missing = [folder for folder in target.parents if not folder.exists()]
        with staging_folder(target) as staging:
            yield staging
            staging.rename(target)
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        reason = error.strerror or type(error).__name__
        raise OutputError(f"{target}: cannot be written ({reason}); nothing was kept") from error
    finally:
        for folder in missing:
            with suppress(OSError):  # not empty: the target is in it
                folder.rmdir()


def seal(staging: Path, manifest: Manifest) -> None:
    """Write manifest.json and SHA256SUMS after every other file is written."""
    (staging / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    sums = [f"{file_digest(staging / name)}  {name}\n" for name in sorted(files_of(manifest))]
    (staging / SHA256SUMS).write_text("".join(sums), encoding="utf-8")
