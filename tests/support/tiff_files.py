"""TIFF files by hand: of any number of bits, sample format and meaning of 0."""

import struct

import numpy as np


def tiff(values, *, bits, photometric=1, sample_format=1):
    """Encode grey values (H, W) as one uncompressed little-endian strip.

    Args:
        values: Integers; of 12 bits two are packed into three bytes, others are stored as they are.
        bits: BitsPerSample.
        photometric: 0 if white is 0, 1 if black is 0.
        sample_format: 1 unsigned, 2 signed, 3 floating point.
    """
    height, width = values.shape
    rows = _packed(values) if bits == 12 else values.tobytes()
    entries = [
        (256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric),
        (273, 4, 8), (277, 3, 1), (278, 3, height), (279, 4, len(rows)), (339, 3, sample_format),
    ]  # fmt: skip
    rows += b"\0" * (len(rows) % 2)
    listed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    head = b"II*\0" + struct.pack("<I", 8 + len(rows))
    return head + rows + struct.pack("<H", len(entries)) + listed + bytes(4)


def _packed(values):
    first, second = values[:, 0::2].astype(np.uint16), values[:, 1::2].astype(np.uint16)
    parts = [first >> 4, (first & 15) << 4 | second >> 8, second & 255]
    return np.stack(parts, axis=-1).astype(np.uint8).tobytes()
