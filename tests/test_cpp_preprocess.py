"""The C++ runner makes the same input of a picture as the Python runtime, to the byte.

One process of `dump_preprocess` reads all pictures of a test; see its source for the protocol.
"""

import io
import os
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from patchcore_runtime.errors import ImageError
from patchcore_runtime.manifest import Preprocessing
from patchcore_runtime.preprocess import fit_to_input, read_image

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"
# `make cpp` builds the first; another build is named by the variable.
DUMP = Path(
    os.environ.get("PATCHCORE_DUMP", REPOSITORY / "out" / "host" / "tests" / "dump_preprocess")
).resolve()
FILTERS = ("bilinear", "bicubic", "lanczos")
TURNED = range(10)  # EXIF orientations, and two that do not exist

pytestmark = [
    pytest.mark.skipif(
        not DUMP.is_file(), reason=f"{DUMP.name} is not built; `make cpp` builds it"
    ),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # of Pillow, about damaged tags
]


def dump(requests):
    """(path, settings or None) -> what C++ made of each: (pixels, placement) or the refusal."""
    lines = []
    for path, settings in requests:
        numbers = () if settings is None else vars(settings).values()
        lines.append("\t".join(map(str, (path, *numbers))) + "\n")
    done = subprocess.run(
        [str(DUMP)], input="".join(lines).encode(), stdout=subprocess.PIPE, check=True
    )
    answers = io.BytesIO(done.stdout)
    return [_answer(answers) for _ in requests]


def _answer(answers):
    word, _, rest = answers.readline().decode().rstrip("\n").partition(" ")
    if word != "ok":
        return rest
    height, width, *placement = map(int, rest.split())
    pixels = np.frombuffer(answers.read(height * width * 3), np.uint8)
    return pixels.reshape(height, width, 3), placement


def _settings(resize, size, filter_name, crop):
    return Preprocessing(
        resize=resize,
        resize_height=size[0],
        resize_width=size[1],
        filter=filter_name,
        height=crop[0],
        width=crop[1],
    )


def _fitted(image, settings):
    """The input by FORMAT.md: the width first, which Pillow 13 alone does not always do."""
    _, place = fit_to_input(image, settings)
    resample = Image.Resampling[settings.filter.upper()]
    wide = image.resize((place.resized_width, image.height), resample)
    whole = np.asarray(wide.resize((place.resized_width, place.resized_height), resample))
    top, left = place.top, place.left
    return whole[top : top + settings.height, left : left + settings.width], place


def _attempt(function, *arguments):
    """What a function gives, or the message of its refusal."""
    try:
        return function(*arguments)
    except ImageError as error:
        return str(error)


def _assert_same_pictures(paths):
    """Decoded alike, or refused by both."""
    for path, ours in zip(paths, dump([(path, None) for path in paths]), strict=True):
        theirs = _attempt(read_image, path)
        assert isinstance(ours, str) == isinstance(theirs, str), (path, ours, theirs)
        if isinstance(ours, str):
            assert ours.startswith(f"{path}: ")
        else:
            assert np.array_equal(ours[0], np.asarray(theirs)), path


def _random_pixels(rng, height, width):
    """Noise, or black and white only: where a resize overshoots."""
    if rng.random() < 0.5:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return 255 * rng.integers(0, 2, (height, width, 3), dtype=np.uint8)


def _random_settings(rng, height, width):
    resize = str(rng.choice(["stretch", "shorter_side"]))
    size = tuple(int(side) for side in rng.integers(32, 300, 2))
    if rng.random() < 0.2:  # a side that keeps its length
        size = (max(32, height), size[1]) if rng.random() < 0.5 else (size[0], max(32, width))
    if resize == "shorter_side":
        size = (size[0], size[0])
    crop = tuple(int(rng.integers(32, side + 1)) for side in size)
    return _settings(resize, size, str(rng.choice(FILTERS)), crop)


@pytest.mark.parametrize("seed", range(4))
def test_any_size_and_filter_gives_the_same_bytes(tmp_path, seed):
    rng = np.random.default_rng(seed)
    requests, images = [], []
    for number in range(150):
        height, width = (int(np.exp(rng.uniform(np.log(8), np.log(700)))) for _ in range(2))
        images.append(Image.fromarray(_random_pixels(rng, height, width)))
        path = tmp_path / f"{number}.png"
        images[-1].save(path, compress_level=0)
        requests.append((path, _random_settings(rng, height, width)))
    for (_, settings), image, ours in zip(requests, images, dump(requests), strict=True):
        theirs = _attempt(_fitted, image, settings)
        if isinstance(theirs, str):
            assert ours == theirs
            continue
        assert ours[1] == list(vars(theirs[1]).values()), (image.size, settings)
        assert np.array_equal(ours[0], theirs[0]), (image.size, settings)


@pytest.mark.xfail(
    reason="Pillow 13 resizes the height first where that is less work, and so does "
    "fit_to_input with it; FORMAT.md says width first",
    strict=False,
)
def test_the_python_runtime_keeps_the_order_of_the_format():
    rng = np.random.default_rng(0)
    for height, width in [(300, 40), (180, 70), (40, 300), (90, 90)]:
        image = Image.fromarray(_random_pixels(rng, height, width))
        settings = _settings("stretch", (64, 96), "lanczos", (64, 96))
        assert np.array_equal(fit_to_input(image, settings)[0], _fitted(image, settings)[0])


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
    _assert_same_pictures(paths)


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
    _assert_same_pictures(paths)


def test_16_bit_grey_is_scaled_alike_for_every_value(tmp_path):
    values = np.arange(2**16, dtype=">u2").reshape(256, 256)
    lines = b"".join(b"\0" + row.tobytes() for row in values)
    _assert_same_pictures([_write(tmp_path, "all.png", _png((256, 256, 16, 0, 0), lines))])


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
    _assert_same_pictures(paths)


def test_jpegs_stored_as_rgb_give_the_same_pixels(tmp_path):
    image = Image.fromarray(_random_pixels(np.random.default_rng(0), 40, 56))
    _assert_same_pictures([_write(tmp_path, "rgb.jpg", _encoded(image, "JPEG", keep_rgb=True))])


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_pictures_are_turned_alike(tmp_path, kind, order):
    image = Image.fromarray(_random_pixels(np.random.default_rng(0), 40, 56))
    paths = []
    for orientation in TURNED:
        for type_number in TIFF_TYPES:
            block = b"Exif\0\0" + _exif(orientation, order=order, kind=type_number)
            content = _encoded(image, kind, exif=block)
            paths.append(_write(tmp_path, f"{orientation}-{type_number}", content))
    _assert_same_pictures(paths)


def test_orientations_outside_of_exif_blocks_count_alike(tmp_path):
    image = Image.fromarray(_random_pixels(np.random.default_rng(0), 40, 56))
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
    _assert_same_pictures(paths)


def test_broken_exif_blocks_count_alike(tmp_path):
    rng = np.random.default_rng(0)
    lines = b"".join(b"\0" + row.tobytes() for row in _random_pixels(rng, 40, 56))
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
    _assert_same_pictures(paths)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "progressive JPEG"])
def test_a_damaged_file_is_read_as_python_reads_it_or_refused(tmp_path, kind):
    rng = np.random.default_rng(0)
    image = Image.fromarray(_random_pixels(rng, 6, 8)).resize((56, 40))
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
    image = Image.fromarray(_random_pixels(np.random.default_rng(0), 40, 56))
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


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared with real photographs is absent")
@pytest.mark.parametrize("folder", ["mvtec/bottle/test/good", "mtd/magnetic_tile/test/good"])
def test_real_photographs_give_the_same_input(folder):
    paths = sorted((SHARED / "data" / folder).iterdir())[:12]
    assert paths
    choices = [
        _settings("stretch", (320, 320), "bilinear", (320, 320)),
        _settings("shorter_side", (256, 256), "bicubic", (224, 224)),
        _settings("stretch", (256, 256), "lanczos", (224, 224)),
    ]
    requests = [(path, settings) for path in paths for settings in choices]
    for (path, settings), ours in zip(requests, dump(requests), strict=True):
        assert np.array_equal(ours[0], _fitted(read_image(path), settings)[0]), (path, settings)
