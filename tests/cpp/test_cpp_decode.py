"""The C++ runner decodes a PNG or JPEG to the pixels that the Python runtime gets, or refuses."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from cpp_dump import attempt, dump, needs_dump, random_pixels
from patchcore_runtime.errors import ImageError
from patchcore_runtime.image.decode import read_image
from patchcore_runtime.image.preprocess import preprocess
from patchcore_runtime.manifest.manifest import Preprocessing

TURNED = range(10)  # EXIF orientations, and two that do not exist

pytestmark = [
    needs_dump,
    pytest.mark.filterwarnings("ignore::UserWarning"),  # of Pillow, about damaged tags
]


def _assert_same_images(paths):
    """Decoded alike, or refused by both."""
    for path, ours in zip(paths, dump([(path, None) for path in paths]), strict=True):
        theirs = attempt(read_image, path)
        assert isinstance(ours, str) == isinstance(theirs, str), (path, ours, theirs)
        if isinstance(ours, str):
            assert ours.startswith(f"{path}: ")
        else:
            assert np.array_equal(ours[0], np.asarray(theirs)), path


# struct's letters for TIFF types BYTE, SHORT, LONG, SBYTE, SSHORT, SLONG, padded to four bytes.
TIFF_TYPES = {1: "Bxxx", 3: "Hxx", 4: "I", 6: "bxxx", 8: "hxx", 9: "i"}


def _exif(orientation, *, order="<", kind=3):
    """A TIFF structure that holds nothing but the orientation."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(order + TIFF_TYPES[kind], orientation)
    entry = struct.pack(order + "HHI", 0x0112, kind, 1) + value
    return head + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


def _chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def _png(header, lines, before=b"", after=b""):
    """A PNG by hand: (width, height, depth, colour type, interlace), and raw lines."""
    ihdr = struct.pack(">IIBBBBB", *header[:4], 0, 0, header[4])
    body = _chunk(b"IHDR", ihdr) + before + _chunk(b"IDAT", zlib.compress(lines)) + after
    return b"\x89PNG\r\n\x1a\n" + body + _chunk(b"IEND", b"")


def _write(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


def _random_palette(rng, depth):
    """PLTE and perhaps tRNS; sometimes shorter than the indices reach."""
    colours = int(rng.integers(1, 2**depth + 1)) if rng.random() < 0.3 else 2**depth
    chunks = _chunk(b"PLTE", rng.integers(0, 256, 3 * colours, dtype=np.uint8).tobytes())
    if rng.random() < 0.6:
        alphas = rng.integers(0, 256, int(rng.integers(1, colours + 1)), dtype=np.uint8)
        chunks += _chunk(b"tRNS", alphas.tobytes() if rng.random() < 0.7 else b"\0")
    return chunks


PNG_KINDS = [
    *((0, depth) for depth in (1, 2, 4, 8, 16)),
    *((3, depth) for depth in (1, 2, 4, 8)),
    *((colour, depth) for colour in (2, 4, 6) for depth in (8, 16)),
]


@pytest.mark.parametrize(("colour", "depth"), PNG_KINDS)
def test_every_kind_of_png_gives_the_same_pixels(tmp_path, colour, depth):
    rng = np.random.default_rng(colour * 100 + depth)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    paths = []
    for number in range(16):
        height, width = (int(side) for side in rng.integers(8, 40, 2))
        row_bytes = (width * channels * depth + 7) // 8
        rows = rng.integers(0, 256 if number % 2 else 3, (height, row_bytes), dtype=np.uint8)
        lines = b"".join(b"\0" + row.tobytes() for row in rows)
        before = _random_palette(rng, depth) if colour == 3 else b""
        if colour in (0, 2) and number % 4 < 3:  # one transparent colour
            key = int(rng.integers(0, 3 if number % 4 else 2**16))
            before += _chunk(b"tRNS", struct.pack(">H", key) * channels)
        if number % 3 == 0:
            before = _chunk(b"gAMA", struct.pack(">I", 45455)) + before
            before += _chunk(b"eXIf", _exif(number % 10))
        content = _png((width, height, depth, colour, 0), lines, before)
        paths.append(_write(tmp_path, f"{number}.png", content))
    _assert_same_images(paths)


def _interlaced(values):
    """(H, W, bytes) -> the lines of Adam7's seven passes."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    parts = [values[y::dy, x::dx] for x, y, dx, dy in (*passes, (0, 1, 1, 2))]
    return b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)


@pytest.mark.parametrize(("colour", "depth", "size"), [(2, 8, 3), (0, 16, 2), (6, 8, 4)])
def test_interlaced_pngs_give_the_same_pixels(tmp_path, colour, depth, size):
    rng = np.random.default_rng(depth)
    paths = []
    for number in range(6):
        values = rng.integers(0, 256, (*rng.integers(8, 40, 2), size), dtype=np.uint8)
        header = (values.shape[1], values.shape[0], depth, colour, 1)
        paths.append(_write(tmp_path, f"{number}.png", _png(header, _interlaced(values))))
    _assert_same_images(paths)


def test_16_bit_grey_is_scaled_alike_for_every_value(tmp_path):
    values = np.arange(2**16, dtype=">u2").reshape(256, 256)
    lines = b"".join(b"\0" + row.tobytes() for row in values)
    _assert_same_images([_write(tmp_path, "all.png", _png((256, 256, 16, 0, 0), lines))])


def _encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_of_every_kind_give_the_same_pixels(tmp_path, mode):
    rng = np.random.default_rng(len(mode))
    paths = []
    for number in range(30):
        height, width = (int(side) for side in rng.integers(8, 150, 2))
        noise = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 4), dtype=np.uint8)
        image = Image.fromarray(noise[..., :3]).resize((width, height)).convert(mode)
        if mode == "CMYK":  # all four inks at random
            inks = np.ascontiguousarray(noise)
            size = (inks.shape[1], inks.shape[0])
            image = Image.frombytes("CMYK", size, inks.tobytes()).resize((width, height))
        options = {"subsampling": number % 3} if mode == "RGB" else {}
        if number % 5 == 0:
            options["restart_marker_blocks"] = 2
        quality = int(rng.integers(20, 100))
        content = _encoded(image, "JPEG", quality=quality, progressive=number % 2 == 1, **options)
        paths.append(_write(tmp_path, f"{number}.jpg", content))
    _assert_same_images(paths)


def test_jpegs_stored_as_rgb_give_the_same_pixels(tmp_path):
    image = Image.fromarray(random_pixels(np.random.default_rng(0), 40, 56))
    _assert_same_images([_write(tmp_path, "rgb.jpg", _encoded(image, "JPEG", keep_rgb=True))])


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_images_are_turned_alike(tmp_path, kind, order):
    image = Image.fromarray(random_pixels(np.random.default_rng(0), 40, 56))
    paths = []
    for orientation in TURNED:
        for type_number in TIFF_TYPES:
            block = b"Exif\0\0" + _exif(orientation, order=order, kind=type_number)
            content = _encoded(image, kind, exif=block)
            paths.append(_write(tmp_path, f"{orientation}-{type_number}", content))
    _assert_same_images(paths)


def test_orientations_outside_of_exif_blocks_count_alike(tmp_path):
    image = Image.fromarray(random_pixels(np.random.default_rng(0), 40, 56))
    lines = b"".join(b"\0" + row.tobytes() for row in np.asarray(image))
    paths = []
    for number in TURNED:
        xmp, old = PngImagePlugin.PngInfo(), PngImagePlugin.PngInfo()
        packet = f'<x tiff:Orientation="{number}"/>'
        xmp.add_itxt("XML:com.adobe.xmp", packet, zip=number % 2 == 1)
        block = b"Exif\0\0" + _exif(number)
        digits = f"\nexif\n{len(block):8}\n{block.hex()[:40]}\n{block.hex()[40:]}\n"
        old.add_text("Raw profile type exif", digits, zip=number % 2 == 1)
        contents = {
            "xmp.png": _encoded(image, "PNG", pnginfo=xmp),
            "xmp.jpg": _encoded(image, "JPEG", xmp=packet.encode()),
            "old.png": _encoded(image, "PNG", pnginfo=old),
            "behind.png": _png((56, 40, 8, 2, 0), lines, after=_chunk(b"eXIf", _exif(number))),
        }
        for name, content in contents.items():
            paths.append(_write(tmp_path, f"{number}-{name}", content))
    _assert_same_images(paths)


def test_broken_exif_blocks_count_alike(tmp_path):
    rng = np.random.default_rng(0)
    lines = b"".join(b"\0" + row.tobytes() for row in random_pixels(rng, 40, 56))
    blocks = [b"", b"Exif\0\0", b"junk", b"II*\0", _exif(6)[:20], _exif(6)[:-1]]
    for _ in range(150):
        block = bytearray(_exif(int(rng.integers(1, 9)), order=str(rng.choice(["<", ">"]))))
        for place in rng.integers(0, len(block), 2):
            block[place] = int(rng.integers(0, 20))
        blocks.append(bytes(block))
    paths = []
    for number, block in enumerate(blocks):
        content = _png((56, 40, 8, 2, 0), lines, before=_chunk(b"eXIf", block))
        paths.append(_write(tmp_path, f"{number}.png", content))
    _assert_same_images(paths)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "progressive JPEG"])
def test_a_damaged_file_is_read_as_python_reads_it_or_refused(tmp_path, kind):
    rng = np.random.default_rng(0)
    image = Image.fromarray(random_pixels(rng, 6, 8)).resize((56, 40))
    content = _encoded(image, kind.split()[-1], **({"progressive": True} if " " in kind else {}))
    cut = [content[:length] for length in (*range(0, len(content), 13), len(content) - 1)]
    damaged = []
    for place in rng.integers(0, len(content), 300):
        damaged.append(bytearray(content))
        damaged[-1][place] ^= int(rng.integers(1, 256))
    paths = [_write(tmp_path, str(i), bytes(c)) for i, c in enumerate([*cut, *damaged])]
    read = 0
    for path, ours in zip(paths, dump([(path, None) for path in paths]), strict=True):
        if isinstance(ours, str):
            assert ours.startswith(f"{path}: ")
            continue
        read += 1
        theirs = np.asarray(read_image(path))  # C++ reads only what Python reads
        if kind == "PNG":
            assert np.array_equal(ours[0], theirs), path
        else:  # releases of libjpeg-turbo get over damage in different ways
            assert ours[0].shape == theirs.shape
    assert kind == "PNG" or read > 100  # a checksum guards every byte of a PNG


def test_formats_that_only_python_reads_are_refused_by_name(tmp_path):
    image = Image.fromarray(random_pixels(np.random.default_rng(0), 40, 56))
    for kind in ("BMP", "TIFF", "WEBP"):
        path = _write(tmp_path, f"photo.{kind}", _encoded(image, kind))
        expected = f"{path}: {kind}, but this program reads PNG and JPEG"
        assert dump([(path, None)])[0].startswith(expected)


@pytest.mark.parametrize("size", [(8193, 8192), (8192, 8193), (7, 100), (100, 7)])
def test_sizes_are_refused_in_the_same_words(tmp_path, size):
    path = _write(tmp_path, "photo.png", _png((*size, 8, 2, 0), bytes(1000)))
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert dump([(path, None)]) == [str(caught.value)]


def _rgba(grey, alpha):
    return np.dstack([grey, grey, grey, np.full_like(grey, alpha)])


def test_images_that_are_transparent_everywhere_are_opaque_in_both(tmp_path):
    grey = np.arange(40 * 56, dtype=np.uint32).reshape(40, 56).astype(np.uint8)
    paths = []
    for name, image in {
        "rgba": Image.fromarray(_rgba(grey, 0)),
        "visible": Image.fromarray(_rgba(grey, 1)),
        "grey_alpha": Image.fromarray(_rgba(grey, 0)).convert("LA"),
    }.items():
        paths.append(tmp_path / f"{name}.png")
        image.save(paths[-1])
    flat = np.full((40, 56), 7, np.uint8)
    paths.append(tmp_path / "key.png")
    Image.fromarray(flat).save(paths[-1], transparency=7)
    indexed = Image.fromarray(grey % 4).convert("P")
    paths.append(tmp_path / "palette.png")
    indexed.save(paths[-1], transparency=bytes(4))
    _assert_same_images(paths)
    for path in (paths[0], paths[2]):
        assert np.array_equal(np.asarray(read_image(path))[..., 0], grey)


def _stretched(height, width, **more):
    return Preprocessing(
        resize="stretch",
        resize_height=height,
        resize_width=width,
        filter="bilinear",
        height=height,
        width=width,
        **more,
    )


@pytest.mark.parametrize("white", [255, 1023, 4095, 16383, 65535])
def test_white_levels_and_refusals_are_the_same(tmp_path, white):
    settings = _stretched(40, 56, white_level=white)
    rng = np.random.default_rng(white)
    requests = []
    for number, top in enumerate([white, white // 17, min(white + 1, 65535), 65535]):
        grey = rng.integers(0, top + 1, (40, 56)).astype(np.uint16)
        grey[0, 0] = top
        path = tmp_path / f"{number}.png"
        Image.fromarray(grey).save(path)
        requests.append((path, settings))
    deep = rng.integers(0, 65536, (40, 56, 3)).astype(">u2")
    lines = b"".join(b"\0" + row.tobytes() for row in deep)
    requests.append((_write(tmp_path, "deep.png", _png((56, 40, 16, 2, 0), lines)), settings))
    for (path, _), ours in zip(requests, dump(requests), strict=True):
        theirs = attempt(lambda path=path: preprocess(path, settings, notes=[])[0])
        if isinstance(theirs, str):
            assert ours == theirs
        else:
            assert np.array_equal(ours[0], theirs), path


@pytest.mark.parametrize("size", [(8, 2**23), (2**23, 8), (8, 2**20), (2**20, 8), (64, 2**19)])
def test_elongated_images_are_refused_alike_before_a_pixel_is_decoded(tmp_path, size):
    settings = _stretched(64, 96)
    width, height = size
    path = _write(tmp_path, "long.png", _png((width, height, 1, 0, 0), b"\0"))  # one line of pixels
    (ours,) = dump([(path, settings)])
    theirs = attempt(lambda: preprocess(path, settings))
    assert ("too elongated" in ours) == ("too elongated" in theirs)
    assert "too elongated" in ours or "truncated" in ours
