"""thumbnails.bin: small training photographs, which show the nearest normal patch of a score.

images <-> one file: header, table, and JPEG files one after the other. artifacts/FORMAT.md defines
the bytes. No entry is decoded before its position in the file has been checked.
"""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from patchcore_runtime.errors import ArtifactError, ImageError
from patchcore_runtime.files.regular import read_regular
from patchcore_runtime.image.decode import DECODER_ERRORS, read_image
from patchcore_runtime.image.limits import MIN_SIDE_PX

MAGIC = b"PCTHUMBS"
VERSION = 1
MAX_SIDE_PX = 512
MOST_BYTES = 2**31  # of the file
_HEADER = struct.Struct("<8sII")  # magic, version, number of images
_ENTRY = struct.Struct("<III")  # bytes of the JPEG, height and width of the photograph
_QUALITY = 85


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """One small photograph; `jpeg` is empty if none was kept."""

    jpeg: bytes = b""
    photo_height: int = 0
    photo_width: int = 0

    def decode(self, where: str) -> Image.Image:
        """Decode the image to RGB; its long side is at most MAX_SIDE_PX.

        Raises:
            ArtifactError: the bytes are not such a JPEG; `where` names the file.
        """
        try:
            image = Image.open(io.BytesIO(self.jpeg), formats=("JPEG",))
            if max(image.size) > MAX_SIDE_PX:
                raise ArtifactError(
                    f"{where}: expected thumbnails of at most {MAX_SIDE_PX} px a side, got one of "
                    f"{image.width} x {image.height} px; copy the folder again"
                )
            return read_image(image)
        except (ImageError, *DECODER_ERRORS) as error:
            reason = " ".join(str(error).split())[:120]
            raise ArtifactError(
                f"{where}: a thumbnail is not a JPEG ({reason}); copy the folder again"
            ) from None


def make_thumbnail(photograph: Image.Image) -> Thumbnail:
    """Make the thumbnail of one photograph, which is RGB and oriented as shown."""
    small = photograph.copy()
    small.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return Thumbnail(
        jpeg=file.getvalue(), photo_height=photograph.height, photo_width=photograph.width
    )


def write_thumbnails(path: Path, images: Sequence[Thumbnail]) -> None:
    """Write the file into a staging folder; the caller renames that folder into place."""
    table = [_ENTRY.pack(len(one.jpeg), one.photo_height, one.photo_width) for one in images]
    content = [_HEADER.pack(MAGIC, VERSION, len(images)), *table]
    path.write_bytes(b"".join([*content, *(one.jpeg for one in images)]))


def read_thumbnails(path: Path, count: int) -> tuple[Thumbnail, ...]:
    """Load the file of an artifact with `count` training images.

    Raises:
        ArtifactError: the file is missing, of another version or count, or its sizes do not add
            up to its length.
    """
    try:
        content = read_regular(path, limit=MOST_BYTES, own=True)
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}; copy the folder again") from None
    header = content[: _HEADER.size]
    if len(header) < _HEADER.size or header[:8] != MAGIC:
        raise ArtifactError(f"{path}: expected thumbnails ({MAGIC!r}), got {header[:8]!r}")
    _, version, listed = _HEADER.unpack(header)
    if version != VERSION:
        raise ArtifactError(f"{path}: version: expected {VERSION}, got {version}")
    if listed != count:
        raise ArtifactError(
            f"{path}: manifest.json names {count} training images, the file {listed}; "
            "copy the folder again"
        )
    start = _HEADER.size + count * _ENTRY.size
    entries = (
        list(_ENTRY.iter_unpack(content[_HEADER.size : start])) if len(content) >= start else []
    )
    expected = start + sum(size for size, _, _ in entries)
    if len(entries) != count or len(content) != expected:
        raise ArtifactError(
            f"{path}: the table says {expected} bytes, the file has {len(content)}; "
            "copy the folder again"
        )
    images = []
    for number, (size, height, width) in enumerate(entries):
        if size and min(height, width) < MIN_SIDE_PX:
            raise ArtifactError(
                f"{path}: image {number}: expected a photograph of at least {MIN_SIDE_PX} px a "
                f"side, got {width} x {height}; copy the folder again"
            )
        images.append(
            Thumbnail(jpeg=content[start : start + size], photo_height=height, photo_width=width)
        )
        start += size
    return tuple(images)
