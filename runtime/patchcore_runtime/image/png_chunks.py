"""PNG file -> the same file without the chunks that do not matter, after its structure is checked.

Decoders disagree about odd PNGs: chunks out of order, wrong numbers in them, animations. FORMAT.md,
section PNG, says which are read; Pillow gets the chunks of these rules only, as libpng does in C++.
"""

import io
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO

from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xaeB`\x82"
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel
_TRANSPARENT_BYTES = {0: 2, 2: 6}  # length of tRNS
_TEXTS = (b"Raw profile type exif", b"XML:com.adobe.xmp")  # that hold an orientation
_TEXT_KINDS = (b"tEXt", b"zTXt", b"iTXt")
_MOST_TEXT = 2**20  # bytes of a text after decompression
_BLOCK = 2**16
_ZLIB_HEAD = 2  # bytes before the compressed data


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    kind: bytes
    start: int  # of its length in the file
    length: int  # of its content


def readable_png(file: BinaryIO) -> "PngView":
    """Check the structure of a PNG; return what a decoder is to see of it.

    Raises:
        SyntaxError: a rule is broken; the text says which.
        OSError: the file ends before its pixels do.
    """
    view = PngView(file)
    chunks = _chunks(file)
    view.add(_header(chunks))
    seen: set[bytes] = set()
    for chunk in chunks:
        if chunk.kind == b"IDAT":
            view.add_pixels(chunk)
        elif b"IDAT" in seen:
            _add_after_pixels(view, chunk, chunks)
            break
        else:
            _add_before_pixels(view, chunk, seen)
        seen.add(chunk.kind)
    if view.kind == 3 and b"PLTE" not in seen:
        raise SyntaxError("broken PNG file: its palette")
    if b"IDAT" not in seen:
        raise OSError("image file is truncated")
    view.end()
    return view


def _add_before_pixels(view: "PngView", chunk: _Chunk, seen: set[bytes]) -> None:
    if chunk.kind == b"PLTE":
        if seen & {b"PLTE", b"tRNS"} or chunk.length % 3 or not 3 <= chunk.length <= 768:
            raise SyntaxError("broken PNG file: its palette")
        view.add_palette(chunk)
    elif chunk.kind == b"tRNS":
        if b"tRNS" in seen or not view.add_transparency(chunk):
            raise SyntaxError("broken PNG file: its transparency")
    elif chunk.kind[0] & 0x20 == 0:
        raise SyntaxError("broken PNG file: a chunk out of place")
    elif _holds_orientation(view, chunk):
        view.add_metadata(chunk)


def _chunks(file: BinaryIO) -> Iterator[_Chunk]:
    """Yield the chunks up to IEND or the end of the file."""
    size, start = file.seek(0, io.SEEK_END), len(SIGNATURE)
    while start + 12 <= size:
        file.seek(start)
        length, kind = struct.unpack(">I4s", file.read(8))
        if not kind.isalpha():
            raise SyntaxError("broken PNG file: the name of a chunk")
        if length > size - start - 12:
            raise OSError("image file is truncated")
        if kind == b"IEND":
            return
        yield _Chunk(kind=kind, start=start, length=length)
        start += 12 + length


def _header(chunks: Iterator[_Chunk]) -> _Chunk:
    chunk = next(chunks, None)
    if chunk is None or chunk.kind != b"IHDR" or chunk.length != 13:
        raise SyntaxError("broken PNG file: its header")
    return chunk


def _add_after_pixels(view: "PngView", chunk: _Chunk, rest: Iterator[_Chunk]) -> None:
    """Add metadata; what is missing or damaged behind the pixels costs none of them."""
    try:
        while True:
            if _holds_orientation(view, chunk):
                view.add_metadata(chunk)
            chunk = next(rest)
    except (StopIteration, SyntaxError, OSError):
        return


def _holds_orientation(view: "PngView", chunk: _Chunk) -> bool:
    """Return whether a chunk is EXIF or a text of a known name, which can be decompressed.

    Raises:
        SyntaxError: its checksum is wrong.
    """
    if chunk.kind not in (b"eXIf", *_TEXT_KINDS) or chunk.length > _MOST_TEXT:
        return False
    view.check_sum(chunk)
    return chunk.kind == b"eXIf" or _is_orientation_text(view.file, chunk)


def _is_orientation_text(file: BinaryIO, chunk: _Chunk) -> bool:
    file.seek(chunk.start + 8)
    name, zero, _ = file.read(min(chunk.length, 80)).partition(b"\0")
    if name not in _TEXTS or not zero or chunk.kind == b"tEXt":
        return name in _TEXTS and bool(zero)
    file.seek(chunk.start + 8 + len(name) + 1)
    rest = file.read(chunk.length - len(name) - 1)
    if chunk.kind == b"iTXt":
        flags, rest = rest[:2], rest[2:]
        texts = rest.split(b"\0", 2)
        if len(flags) < 2 or len(texts) < 3 or flags[0] > 1:
            return False
        if flags[0] == 0:
            return True
        rest = flags[1:] + texts[2]
    return rest[:1] == b"\0" and _inflates(rest[1:])


def _inflates(packed: bytes) -> bool:
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(packed, _MOST_TEXT)
    except zlib.error:
        return False
    return stream.eof and len(text) < _MOST_TEXT


class PngView(io.RawIOBase):
    """A file made of parts of another one, and of a few bytes of its own.

    Args:
        file: The whole file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.kind = 0  # of its colours, as in IHDR
        self.colours = 0  # of its palette
        self._starts: list[int] = []
        self._parts: list[tuple[int, int] | bytes] = [SIGNATURE]  # places and lengths, or bytes
        self._packet = 0  # number of the part that is a packet of XMP
        self._pixels: list[_Chunk] = []
        self._size = self._place = 0
        self._raw_bytes = 0
        self._interlaced = False

    def add(self, chunk: _Chunk) -> None:
        """Add a chunk whose checksum is right.

        Raises:
            SyntaxError: it is wrong, or the header's numbers are.
        """
        self.check_sum(chunk)
        if chunk.kind == b"IHDR":
            self._read_header(chunk)
        self._append(chunk)

    def add_metadata(self, chunk: _Chunk) -> None:
        """Add EXIF or a text whose checksum was compared; of several packets of XMP the last."""
        if chunk.kind == b"iTXt":
            self._parts[self._packet] = b"" if self._packet else SIGNATURE
            self._packet = len(self._parts)
        self._append(chunk)

    def _append(self, chunk: _Chunk) -> None:
        self._parts.append((chunk.start, 12 + chunk.length))

    def add_pixels(self, chunk: _Chunk) -> None:
        """Add an IDAT chunk."""
        self.add(chunk)
        self._pixels.append(chunk)

    def add_palette(self, chunk: _Chunk) -> None:
        """Add a PLTE chunk, which counts in a palette image only."""
        if self.kind == 3:
            self.colours = chunk.length // 3
            self.add(chunk)

    def add_transparency(self, chunk: _Chunk) -> bool:
        """Add a tRNS chunk, cut to the palette; return whether its length and place are right."""
        if self.kind in (4, 6):
            return True  # they have an alpha channel, which counts
        if self.kind != 3:
            if chunk.length == _TRANSPARENT_BYTES[self.kind]:
                self.add(chunk)
                return True
            return False
        if not self.colours or not chunk.length:
            return False
        self.check_sum(chunk)
        self.file.seek(chunk.start + 8)
        content = b"tRNS" + self.file.read(min(chunk.length, self.colours))
        length, checksum = len(content) - 4, zlib.crc32(content)
        self._parts.append(struct.pack(">I", length) + content + struct.pack(">I", checksum))
        return True

    def end(self) -> None:
        """Finish the file, so that it can be read."""
        self._parts.append(_END)
        sizes = [len(part) if isinstance(part, bytes) else part[1] for part in self._parts]
        self._starts = [0, *accumulate(sizes)][:-1]
        self._size = sum(sizes)

    def refuse_missing_rows(self, image: Image.Image) -> None:
        """Refuse pixels of which some are missing; Pillow leaves them black.

        Only an image that ends in black is decompressed a second time.

        Raises:
            OSError: rows are missing.
        """
        width, height = image.size
        last = image.crop((0, height - 1, width, height))
        if self._interlaced or last.getbbox(alpha_only=False) is None:
            self._refuse_short_stream()

    def _refuse_short_stream(self) -> None:
        # Without zlib's frame: its checksum is not compared, as in libpng.
        left, stream, skipped = self._raw_bytes, zlib.decompressobj(-zlib.MAX_WBITS), 0
        for block in self._packed():
            packed = block[max(0, _ZLIB_HEAD - skipped) :]
            skipped += len(block)
            while packed and left > 0 and not stream.eof:
                left -= len(stream.decompress(packed, _BLOCK))
                packed = stream.unconsumed_tail
        if left > 0:
            raise OSError("image file is truncated")

    def _packed(self) -> Iterator[bytes]:
        for chunk in self._pixels:
            for at in range(0, chunk.length, _BLOCK):
                self.file.seek(chunk.start + 8 + at)
                yield self.file.read(min(_BLOCK, chunk.length - at))

    def _read_header(self, chunk: _Chunk) -> None:
        self.file.seek(chunk.start + 8)
        fields = struct.unpack(">IIBBBBB", self.file.read(13))
        width, height, depth, self.kind, packing, filtering, interlaced = fields
        known = depth in _DEPTHS.get(self.kind, ()) and not packing and not filtering
        if not known or interlaced > 1 or not 0 < width < 2**31 or not 0 < height < 2**31:
            raise SyntaxError("broken PNG file: its header")
        self._interlaced = bool(interlaced)
        bits = depth * _SAMPLES[self.kind]
        passes = _PASSES if interlaced else ((0, 0, 1, 1),)
        for left, top, step_x, step_y in passes:
            columns, rows = -((left - width) // step_x), -((top - height) // step_y)
            if columns > 0 and rows > 0:
                self._raw_bytes += rows * (1 + (columns * bits + 7) // 8)

    def check_sum(self, chunk: _Chunk) -> None:
        """Refuse a chunk whose checksum is wrong.

        Raises:
            SyntaxError: it is.
        """
        self.file.seek(chunk.start + 4)
        left, total = 4 + chunk.length, 0
        while left:
            block = self.file.read(min(left, _BLOCK))
            total = zlib.crc32(block, total)
            left -= len(block)
        if self.file.read(4) != struct.pack(">I", total):
            raise SyntaxError(f"broken PNG file: the checksum of {chunk.kind.decode()}")

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place, as of a file."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        """Read from the part at this place."""
        if self._place >= self._size:
            return 0
        number = bisect_right(self._starts, self._place) - 1
        part, skip = self._parts[number], self._place - self._starts[number]
        if isinstance(part, bytes):
            content = part[skip : skip + len(buffer)]
        else:
            self.file.seek(part[0] + skip)
            content = self.file.read(min(part[1] - skip, len(buffer)))
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


# Left, top and steps of the passes of an interlaced image.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
           (0, 1, 1, 2))  # fmt: skip
