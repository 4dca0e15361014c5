"""How many scans a JPEG has, counted before any is decoded.

bytes of a file -> number of its SOS markers up to the end of the image (ITU T.81, annex B). A
progressive picture may have as many scans as it likes, of ten bytes each, and each costs a pass
over all coefficients: a file of some kilobytes could keep a decoder busy for minutes.
"""

import re

MOST_SCANS = 100  # encoders write one to about twenty

# A marker: not a stuffed zero, a fill byte or a restart, which stand inside of a scan's data.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_END, _SCAN = 0xD9, 0xDA
_WITHOUT_LENGTH = (0x01, 0xD8)


def has_too_many_scans(content: bytes) -> bool:
    """Whether a JPEG has more than `MOST_SCANS`; False for files of any other kind."""
    if content[:2] != b"\xff\xd8":
        return False
    place, scans = 2, 0
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
