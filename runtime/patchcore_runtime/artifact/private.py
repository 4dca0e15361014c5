"""A private copy of an artifact, so that the bytes that are verified are the bytes that are loaded.

folder -> temporary folder that only this user can write. Engines map files and read them again
later. Of the original, a later change would alter scores, and a shorter file would end the process.
"""

import shutil
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from patchcore_runtime.errors import ArtifactError, OutputError
from patchcore_runtime.files.regular import open_regular


class PrivateCopy:
    """A folder of copied files; it is removed together with this object, or at exit.

    Args:
        source: The artifact.
    """

    def __init__(self, source: Path) -> None:
        self._source = source
        try:
            place = tempfile.mkdtemp(prefix="patchcore-")  # with mode 0700
            weakref.finalize(self, shutil.rmtree, place, ignore_errors=True)
            self.folder = Path(place) / (source.name or "artifact")
            self.folder.mkdir()
        except OSError as error:
            raise OutputError(
                f"{tempfile.gettempdir()}: cannot be written ({error.strerror}); set TMPDIR"
            ) from None

    def take(self, names: Iterable[str], *, required: bool) -> None:
        """Copy files; those that are missing are left out unless they are required.

        Raises:
            ArtifactError: a file cannot be read, or is not a regular file of the artifact.
            OutputError: the temporary folder is full.
        """
        for name in names:
            path = self._source / name
            try:
                file = open_regular(path, own=True)
            except FileNotFoundError as error:
                if required:
                    raise ArtifactError(
                        f"{path}: {error.strerror}; copy the folder again"
                    ) from None
                continue
            except OSError as error:
                raise ArtifactError(f"{path}: {error.strerror}; copy the folder again") from None
            with file:
                self._copy(file, name)

    def _copy(self, file: BinaryIO, name: str) -> None:
        try:
            with (self.folder / name).open("wb") as target:
                shutil.copyfileobj(file, target, 2**20)
        except OSError as error:
            raise OutputError(
                f"{self.folder / name}: cannot be written ({error.strerror}); free "
                f"{tempfile.gettempdir()}, or set TMPDIR to a larger disk"
            ) from None
