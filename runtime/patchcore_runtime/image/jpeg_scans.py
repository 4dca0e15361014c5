"""Count the scans of a JPEG: each costs a pass over all pixels, and ten bytes are enough for one.

bytes -> whether there are too many. Scans are counted by their SOS markers up to the end of the
image (ITU T.81, annex B).
"""

import re
from typing import BinaryIO

from patchcore_runtime.errors import ImageError

MOST_SCANS = 100  # encoders write one to about twenty

# Stuffed zeros, fill bytes and restarts are no markers: they occur inside a scan's data.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_START, _END, _SCAN = b"\xff\xd8", 0xD9, 0xDA
_WITHOUT_LENGTH = (0x01, 0xD8)


def refuse_endless_jpeg(file: BinaryIO, where: str) -> None:
    """Refuse a JPEG of too many scans; leave the file at its beginning.

    Raises:
        ImageError: the message begins with `where`.
    """
    start = file.read(len(_START))
    if start == _START and has_too_many_scans(start + file.read()):
        raise ImageError(
            f"{where}: expected at most {MOST_SCANS} scans in a JPEG, got more; save it as baseline"
        )
    file.seek(0)


def has_too_many_scans(content: bytes) -> bool:
    """Return whether a JPEG has more than `MOST_SCANS` scans; False for any other kind of file."""
    if content[: len(_START)] != _START:
        return False
    place, scans = len(_START), 0
    while found := _MARKER.search(content, place):
        kind, place = found[1][0], found.end()
        if kind == _END:
            break
        scans += kind == _SCAN
        if scans > MOST_SCANS:
            return True
        if kind not in _WITHOUT_LENGTH:
            place += int.from_bytes(content[place : place + 2], "big")
    return False
