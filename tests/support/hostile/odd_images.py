"""Extreme images: bombs that must be refused or cost little, and unusual but valid images.

-> name, content of the file and, for valid images, the RGB by FORMAT.md's tables, computed here
from the stored numbers and not by Pillow's conversions.
"""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, PngImagePlugin

from hostile import encoded

SIZE = (40, 56)  # height, width
MIB = 2**20


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def _png(header, lines: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    """Encode a PNG of (width, height, depth, colour type) from compressed lines."""
    ihdr = struct.pack(">IIBBBBB", *header, 0, 0, 0)
    body = _chunk(b"IHDR", ihdr) + before + _chunk(b"IDAT", lines) + after
    return b"\x89PNG\r\n\x1a\n" + body + _chunk(b"IEND", b"")


def _zeros(size: int) -> bytes:
    """Return that many zero bytes, compressed, without holding them in memory."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(MIB)) for _ in range(size // MIB)]
    return b"".join([*parts, packer.flush()])


def bombs() -> dict[str, bytes]:
    """Return small files that could become large: each is refused or read within limits."""
    rng = np.random.default_rng(0)
    lines = zlib.compress(b"".join(b"\0" + row.tobytes() for row in _noise(rng)))
    height, width = SIZE
    header = (width, height, 8, 2)
    bomb = _zeros(400 * MIB)
    animated = io.BytesIO()
    frames = [Image.new("RGB", (width, height), (n, 0, 0)) for n in range(200)]
    frames[0].save(animated, "PNG", save_all=True, append_images=frames[1:], duration=1)
    return {
        "inflates_to_400_MB.png": _png(header, bomb),
        "two_lines_of_IDAT_then_400_MB.png": _png(header, lines, after=_chunk(b"IDAT", bomb)),
        "text_of_400_MB.png": _png(header, lines, before=_chunk(b"zTXt", b"Comment\0\0" + bomb)),
        "international_text_of_400_MB.png": _png(
            header, lines, before=_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb)
        ),
        "profile_of_400_MB.png": _png(header, lines, before=_chunk(b"iCCP", b"x\0\0" + bomb)),
        "exif_of_400_MB.png": _png(
            header, lines, before=_chunk(b"zTXt", b"Raw profile type exif\0\0" + bomb)
        ),
        "claims_2_to_the_31.png": _png((2**31 - 1, 2**31 - 1, 16, 6), bomb),
        "claims_8193_x_8192.png": _png((8193, 8192, 8, 2), bomb),
        "claims_4096_x_4096_and_is_empty.png": _png((4096, 4096, 8, 2), zlib.compress(b"")),
        "claims_65500_x_65500.jpg": _claimed_jpeg(65500, 65500),
        "claims_65500_x_1000_and_is_cut.jpg": _claimed_jpeg(65500, 1000),
        "claims_65535_x_65535.tif": _claimed_tiff(65535, 65535),
        "claims_2_to_the_31.bmp": b"BM" + struct.pack("<IIIIiiHHIIIIII", 10**6, 0, 54, 40,
            2**31 - 1, 2**31 - 1, 1, 24, 0, 10**6, 0, 0, 0, 0) + bytes(1000),
        "claims_16383_x_16383.webp": _claimed_webp(16383, 16383),
        "scans_without_end.jpg": _many_scans(),
        "frames_without_end.png": animated.getvalue(),
        "directories_in_a_circle.tif": struct.pack("<2sHIHI", b"II", 42, 8, 0, 8),
        "a_zip_archive.png": b"PK\x03\x04" + bytes(26) + bomb,
    }  # fmt: skip


def _noise(rng, channels=3):
    return rng.integers(0, 256, (*SIZE, channels), dtype=np.uint8)


def _jpeg(**options) -> bytes:
    image = Image.fromarray(_noise(np.random.default_rng(1)))
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def _claimed_jpeg(width: int, height: int) -> bytes:
    content = bytearray(_jpeg())
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def _many_scans() -> bytes:
    """Encode a progressive image of 4096 x 4096 with its last scan repeated 2000 times."""
    content = bytearray(_jpeg(progressive=True))
    place = content.index(b"\xff\xc2") + 5
    content[place : place + 4] = struct.pack(">HH", 4096, 4096)
    last = content.rindex(b"\xff\xda")
    return bytes(content[:-2] + content[last:-2] * 2000 + content[-2:])


def _claimed_tiff(width: int, height: int) -> bytes:
    content = bytearray(encoded(Image.fromarray(_noise(np.random.default_rng(1))), "TIFF"))
    (place,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, place)
    for entry in range(place + 2, place + 2 + 12 * count, 12):
        tag = struct.unpack_from("<H", content, entry)[0]
        if tag in (256, 257):
            struct.pack_into("<I", content, entry + 8, width if tag == 256 else height)
    return bytes(content)


def _claimed_webp(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(_noise(np.random.default_rng(1))).save(file, "WEBP", lossless=True)
    content = bytearray(file.getvalue())
    bits = struct.unpack_from("<I", content, 21)[0] & ~(2**28 - 1)
    struct.pack_into("<I", content, 21, bits | (width - 1) | (height - 1) << 14)
    return bytes(content)


def odd_images() -> Iterator[tuple[str, bytes, np.ndarray]]:
    """Return valid images of unusual kinds, as (name, content, RGB)."""
    rng = np.random.default_rng(2)
    yield from _odd_pngs(rng)
    yield from _turned(rng)
    yield from _first_frames(rng)
    yield "cmyk.tif", *_cmyk(rng)


def _odd_pngs(rng):
    height, width = SIZE
    grey16 = rng.integers(0, 2**16, SIZE).astype(">u2")
    grey = ((grey16.astype(np.int64) + 128) // 257).astype(np.uint8)
    yield "grey_of_16_bits.png", _raw(grey16, (16, 0)), np.stack([grey] * 3, axis=-1)
    rgb16 = rng.integers(0, 2**16, (*SIZE, 3)).astype(">u2")
    yield "rgb_of_16_bits.png", _raw(rgb16, (16, 2)), (rgb16 // 256).astype(np.uint8)
    rgba = _noise(rng, 4)
    yield "alpha.png", _raw(rgba, (8, 6)), _on_black(rgba[..., :3], rgba[..., 3:])
    grey_alpha = _noise(rng, 2)
    flat = _on_black(np.repeat(grey_alpha[..., :1], 3, axis=2), grey_alpha[..., 1:])
    yield "grey_with_alpha.png", _raw(grey_alpha, (8, 4)), flat
    bits = rng.integers(0, 2, (height, width), dtype=np.uint8)
    white = np.stack([255 * bits] * 3, axis=-1)
    yield "one_bit.png", _raw(np.packbits(bits, axis=1), (1, 0)), white
    indices, palette = rng.integers(0, 16, SIZE, dtype=np.uint8), _noise(rng)[0, :16]
    alphas = rng.integers(0, 256, 16, dtype=np.uint8)
    chunks = _chunk(b"PLTE", palette.tobytes()) + _chunk(b"tRNS", alphas.tobytes())
    seen = _on_black(palette[indices], alphas[indices][..., None])
    yield "palette_with_alpha.png", _raw(indices, (8, 3), chunks), seen
    plain = _noise(rng)
    gamma = _chunk(b"gAMA", struct.pack(">I", 100_000))
    yield "gamma_that_is_ignored.png", _raw(plain, (8, 2), gamma), plain


def _raw(values, kind, before=b""):
    lines = b"".join(b"\0" + row.tobytes() for row in values)
    return _png((SIZE[1], SIZE[0], *kind), zlib.compress(lines), before)


def _on_black(rgb, alpha):
    return ((rgb.astype(np.int64) * alpha + 127) // 255).astype(np.uint8)


# FORMAT.md, Orient: the operation on the stored array.
_TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def _turned(rng):
    plain = _noise(rng)
    for orientation, turn in _TURNS.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = io.BytesIO()
        Image.fromarray(plain).save(file, "PNG", exif=exif)
        yield f"orientation_{orientation}.png", file.getvalue(), np.ascontiguousarray(turn(plain))
    stored = Image.fromarray(np.full((*SIZE, 3), 128, np.uint8))
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(file, "JPEG", exif=exif)
    turned = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    yield "orientation_6.jpg", file.getvalue(), turned


def _first_frames(rng):
    frames = [Image.fromarray(_noise(rng)) for _ in range(3)]
    first = np.asarray(frames[0])
    for kind, name in (("PNG", "animated.png"), ("TIFF", "pages.tif"), ("WEBP", "animated.webp")):
        file = io.BytesIO()
        options = {"lossless": True} if kind == "WEBP" else {}
        frames[0].save(file, kind, save_all=True, append_images=frames[1:], **options)
        yield name, file.getvalue(), first
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 10**5, zip=True)
    file = io.BytesIO()
    frames[0].save(file, "PNG", pnginfo=info)
    yield "long_text.png", file.getvalue(), first


def _cmyk(rng):
    """As FORMAT.md: n = 255 - K, then n - q, t = ink * n + 128, q = (t // 256 + t) // 256."""
    inks = _noise(rng, 4)
    n = 255 - inks[..., 3:].astype(np.int64)
    t = inks[..., :3].astype(np.int64) * n + 128
    rgb = (n - (t // 256 + t) // 256).astype(np.uint8)
    image = Image.frombytes("CMYK", (SIZE[1], SIZE[0]), inks.tobytes())
    return encoded(image, "TIFF"), rgb
