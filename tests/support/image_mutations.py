"""Small PNG and JPEG files, and mutations that know their structure: chunks, fields, EXIF, scans.

rng -> bytes of a whole file; bytes + rng -> bytes of a damaged one.
"""

import io
import struct
import zlib
from random import Random

import numpy as np
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_KINDS = [
    *((0, depth) for depth in (1, 2, 4, 8, 16)),
    *((3, depth) for depth in (1, 2, 4, 8)),
    *((colour, depth) for colour in (2, 4, 6) for depth in (8, 16)),
]
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
           (0, 1, 1, 2))  # fmt: skip
Chunk = tuple[bytes, bytes]


def encode_png(chunks: list[Chunk]) -> bytes:
    """Write chunks with their lengths and checksums."""
    parts = [PNG_SIGNATURE]
    for kind, content in chunks:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        parts.append(struct.pack(">I", len(content)) + kind + content + checksum)
    return b"".join(parts)


def chunks_of(content: bytes) -> list[Chunk]:
    """Split a PNG into chunks; stop at damage."""
    chunks, place = [], len(PNG_SIGNATURE)
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    return chunks


def draw_png(rng: Random) -> bytes:
    """Draw a valid PNG of any kind, depth and interlacing."""
    colour, depth = rng.choice(PNG_KINDS)
    width, height, interlaced = rng.randint(1, 33), rng.randint(1, 33), rng.random() < 0.3
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    packed = zlib.compress(_lines(rng, width, height, _SAMPLES[colour] * depth, interlaced))
    chunks = [(b"IHDR", header)]
    if colour == 3:
        chunks.append((b"PLTE", rng.randbytes(3 * 2**depth)))
    if rng.random() < 0.4 and colour in (0, 2, 3):
        chunks.append((b"tRNS", _transparency(rng, colour, depth)))
    if rng.random() < 0.4:
        chunks.insert(1, _metadata(rng))
    half = rng.randint(0, len(packed)) if rng.random() < 0.3 else len(packed)
    chunks += [(b"IDAT", part) for part in (packed[:half], packed[half:]) if part]
    return encode_png([*chunks, (b"IEND", b"")])


def _lines(rng: Random, width: int, height: int, bits: int, interlaced: bool) -> bytes:
    parts = []
    for left, top, step_x, step_y in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns = (width - left + step_x - 1) // step_x
        rows = (height - top + step_y - 1) // step_y
        if columns <= 0:
            continue
        size = (columns * bits + 7) // 8
        parts += [bytes([rng.randrange(5)]) + rng.randbytes(size) for _ in range(rows)]
    return b"".join(parts)


def _transparency(rng: Random, colour: int, depth: int) -> bytes:
    if colour == 3:
        return rng.randbytes(rng.randint(1, 2**depth))
    values = [rng.randrange(2**depth) for _ in range(1 if colour == 0 else 3)]
    return struct.pack(f">{len(values)}H", *values)


def _metadata(rng: Random) -> Chunk:
    exif = draw_exif(rng)
    profile = b"\nexif\n%8d\n%s\n" % (len(exif), exif.hex().encode())
    xmp = b'<x tiff:Orientation="%d"/>' % rng.randrange(10)
    return rng.choice([
        (b"eXIf", exif),
        (b"tEXt", b"Raw profile type exif\0" + profile),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp)),
        (b"gAMA", struct.pack(">I", rng.choice([0, 1, 45455, 2**31]))),
        (b"sRGB", b"\0"),
        (b"iCCP", b"x\0\0" + zlib.compress(rng.randbytes(50))),
        (b"bKGD", rng.randbytes(rng.choice([1, 2, 6]))),
        (b"pHYs", rng.randbytes(9)),
        (b"tIME", rng.randbytes(7)),
        (b"sBIT", rng.randbytes(rng.randint(1, 4))),
        (b"acTL", struct.pack(">II", rng.randrange(3), 0)),
        (b"fcTL", rng.randbytes(26)),
        (b"prVt", rng.randbytes(10)),
    ])  # fmt: skip


def draw_exif(rng: Random) -> bytes:
    """Draw a TIFF structure with an orientation, sometimes damaged."""
    order = rng.choice("<>")
    kind = rng.choice([1, 3, 3, 3, 3, 4, 8, 9, 13])
    entries = [(0x0112, kind, rng.choice([1, 1, 1, 0, 2]), rng.randrange(10))]
    if rng.random() < 0.3:
        entries.insert(0, (0x010F, 2, rng.choice([4, 40]), rng.choice([8, 2**31])))
    body = b"".join(
        struct.pack(f"{order}HHI", *entry[:3])
        + (struct.pack(f"{order}Hxx", entry[3]) if entry[1] == 3 else
           struct.pack(f"{order}I", entry[3]))
        for entry in entries
    )  # fmt: skip
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    exif = head + struct.pack(f"{order}H", len(entries)) + body + bytes(4)
    return flipped(exif, rng) if rng.random() < 0.3 else exif


def draw_jpeg(rng: Random) -> bytes:
    """Draw a valid JPEG: grey, colour or CMYK, of any sampling, baseline or progressive."""
    mode, channels = rng.choice([("L", 1), ("RGB", 3), ("RGB", 3), ("CMYK", 4)])
    height, width = rng.randint(1, 40), rng.randint(1, 40)
    pixels = np.frombuffer(rng.randbytes(height * width * channels), np.uint8)
    shape = (height, width, channels) if channels > 1 else (height, width)
    image = Image.frombytes(mode, (width, height), pixels.reshape(shape).tobytes())
    options = {"quality": rng.randint(1, 100), "progressive": rng.random() < 0.5}
    if mode == "RGB":
        options["subsampling"] = rng.randrange(3)
    if rng.random() < 0.3:
        options["exif"] = b"Exif\0\0" + draw_exif(rng)
    if rng.random() < 0.2:
        options["restart_marker_blocks"] = rng.randint(1, 4)
    held = io.BytesIO()
    image.save(held, "JPEG", **options)
    return held.getvalue()


def segments_of(content: bytes) -> list[bytes]:
    """Split a JPEG at its markers, so that joined parts are the file again."""
    starts = [0]
    place = 2
    while place + 4 <= len(content):
        if content[place] != 0xFF or content[place + 1] in (0, *range(0xD0, 0xD8)):
            place += 1
            continue
        starts.append(place)
        marker = content[place + 1]
        length = int.from_bytes(content[place + 2 : place + 4], "big")
        place += 2 if marker in (0xD8, 0xD9, 0x01) else 2 + max(length, 2)
    return [content[a:b] for a, b in zip(starts, [*starts[1:], len(content)], strict=True)]


def mutated(content: bytes, rng: Random) -> bytes:
    """Damage a file one to three times, mostly so that its parts remain parts."""
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.15:
            content = rng.choice([flipped, cut])(content, rng)
        elif content.startswith(PNG_SIGNATURE):
            content = _mutated_png(content, rng)
        else:
            content = _mutated_jpeg(content, rng)
    return content


def flipped(content: bytes, rng: Random) -> bytes:
    """Change one to four bytes."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        if changed:
            changed[rng.randrange(len(changed))] = rng.choice([0, 1, 255, rng.randrange(256)])
    return bytes(changed)


def cut(content: bytes, rng: Random) -> bytes:
    """Take bytes from the end, or from the middle."""
    start = rng.randrange(len(content) + 1)
    return content[:start] + (content[start + rng.randint(1, 30) :] if rng.random() < 0.5 else b"")


def _mutated_png(content: bytes, rng: Random) -> bytes:
    chunks = chunks_of(content)
    if not chunks:
        return flipped(content, rng)
    place = rng.randrange(len(chunks))
    kind = rng.randrange(9)
    if kind < 2:
        _change_header(chunks, rng)
    elif kind == 2:
        _change_pixels(chunks, rng)
    elif kind == 3:
        chunks.insert(place, chunks[rng.randrange(len(chunks))])
    elif kind == 4:
        del chunks[place]
    elif kind == 5:
        chunks.insert(rng.randrange(len(chunks) + 1), _metadata(rng))
    elif kind == 6:
        chunks.insert(place, rng.choice([(b"tRNS", rng.randbytes(rng.choice([1, 2, 6, 200]))),
                                         (b"PLTE", rng.randbytes(rng.choice([3, 30, 768, 7]))),
                                         (b"IDAT", rng.randbytes(rng.randrange(9))),
                                         (b"ABCD", b"x")]))  # fmt: skip
    elif kind == 7:
        chunks[place] = chunks[place][0], flipped(chunks[place][1], rng)
    else:
        chunks[place] = chunks[place][0], cut(chunks[place][1], rng)
    return encode_png(chunks)


def _change_header(chunks: list[Chunk], rng: Random) -> None:
    kind, content = chunks[0]
    if kind != b"IHDR" or len(content) != 13:
        return
    fields = list(struct.unpack(">IIBBBBB", content))
    place = rng.randrange(7)
    values = {
        0: [0, 1, fields[0] + 1, fields[0] - 1, 40, 2**31],
        1: [0, 1, fields[1] + 1, fields[1] - 1, 40, 2**31],
        2: [0, 1, 2, 3, 4, 8, 16, 32],
        3: [0, 1, 2, 3, 4, 5, 6, 7],
    }
    fields[place] = max(0, rng.choice(values.get(place, [0, 1, 2])))
    chunks[0] = kind, struct.pack(">IIBBBBB", *fields)


def _change_pixels(chunks: list[Chunk], rng: Random) -> None:
    """Change the lines below the compression, or how they are compressed and split."""
    places = [place for place, (kind, _) in enumerate(chunks) if kind == b"IDAT"]
    if not places:
        return
    packed = b"".join(chunks[place][1] for place in places)
    try:
        lines = zlib.decompress(packed)
    except zlib.error:
        return
    how = rng.randrange(5)
    if how == 0:
        lines = flipped(lines, rng)
    elif how == 1:
        lines = cut(lines, rng)
    elif how == 2:
        lines += rng.randbytes(rng.randint(1, 100))
    packed = zlib.compress(lines, rng.randrange(10))
    if how == 3:
        packed = packed[: -rng.randint(1, 6)]
    if how == 4:
        packed += rng.randbytes(rng.randint(1, 9))
    step = rng.choice([1, 7, len(packed)])
    parts = [(b"IDAT", packed[at : at + step]) for at in range(0, len(packed), max(step, 1))]
    rest = [chunk for place, chunk in enumerate(chunks) if place not in places]
    before = min(places[0], len(rest))
    chunks[:] = [*rest[:before], *parts, *rest[before:]]


def _mutated_jpeg(content: bytes, rng: Random) -> bytes:
    parts = segments_of(content)
    place = rng.randrange(len(parts))
    kind = rng.randrange(8)
    if kind == 0:
        parts.insert(place, parts[rng.randrange(len(parts))])
    elif kind == 1:
        del parts[place]
    elif kind == 2:
        other = rng.randrange(len(parts))
        parts[place], parts[other] = parts[other], parts[place]
    elif kind == 3:
        parts.insert(max(1, place), _jpeg_metadata(rng))
    elif kind == 4:
        scans = [part for part in parts if part[1:2] == b"\xda"]
        parts[-1:-1] = scans * rng.choice([1, 30, 101])
    elif kind == 5:
        parts = [_changed_frame(part, rng) for part in parts]
    elif kind == 6:
        parts[place] = parts[place][:4] + flipped(parts[place][4:], rng)
    else:
        parts[place] = cut(parts[place], rng)
    return b"".join(parts)


def _jpeg_metadata(rng: Random) -> bytes:
    marker, content = rng.choice([
        (0xE1, b"Exif\0\0" + draw_exif(rng)),
        (0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="3"/>'),
        (0xE0, b"JFIF\0" + rng.randbytes(9)),
        (0xEE, b"Adobe" + rng.randbytes(6) + bytes([rng.randrange(4)])),
        (0xE2, b"ICC_PROFILE\0\1\1" + rng.randbytes(20)),
        (0xE2, b"MPF\0" + rng.randbytes(40)),
        (0xED, b"Photoshop 3.0\x008BIM" + rng.randbytes(20)),
        (0xFE, b"comment"),
        (0xDD, rng.randbytes(2)),
    ])  # fmt: skip
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _changed_frame(part: bytes, rng: Random) -> bytes:
    if len(part) < 12 or part[0] != 0xFF or part[1] not in (0xC0, 0xC1, 0xC2):
        return part
    changed = bytearray(part)
    place = rng.choice([1, 4, 5, 6, 7, 8, 9, 10, 11, *range(12, len(part))])
    values = [0xC0, 0xC1, 0xC2, 0xC3, 0xC9] if place == 1 else [0, 1, 2, 3, 8, 12, 17, 18, 33, 34]
    changed[place] = rng.choice(values)
    return bytes(changed)
