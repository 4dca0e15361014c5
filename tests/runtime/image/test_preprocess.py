"""Laws of preprocessing: an image gives the same input from any file; other files are refused."""

import contextlib
import io
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageSequence

from patchcore_runtime.errors import ImageError
from patchcore_runtime.image.decode import image_size, read_image
from patchcore_runtime.image.limits import MAX_PIXELS
from patchcore_runtime.image.preprocess import fit_to_input, preprocess
from patchcore_runtime.manifest.manifest import Preprocessing
from tiff_files import tiff

SETTINGS = Preprocessing(
    resize="stretch", resize_height=48, resize_width=64, filter="bilinear", height=48, width=64
)
CROPPED = Preprocessing(
    resize="shorter_side", resize_height=71, resize_width=71, filter="bicubic", height=48, width=64
)


def _pixels(height=40, width=56, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def _read(path):
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def _attempt(read, path):
    """Return (image, "") or (None, the refusal); any other error is raised."""
    try:
        return read(path), ""
    except ImageError as error:
        return None, str(error)


def _grey(values):
    """Return the RGB (H, W, 3) of a grey image (H, W)."""
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


def _png(width, height, *, depth=8, color=2, scanlines=b"", chunks=b""):
    """Encode a PNG by hand, for headers and depths that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = _chunk(b"IHDR", header) + chunks + _chunk(b"IDAT", zlib.compress(scanlines))
    return b"\x89PNG\r\n\x1a\n" + body + _chunk(b"IEND", b"")


def _chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp"])
def test_lossless_files_give_their_pixels(tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(_pixels()).save(path, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(_read(path), _pixels())


def test_the_content_decides_and_not_the_suffix(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(_pixels()).save(path, "PNG")
    assert np.array_equal(_read(path), _pixels())


# EXIF 2.32, tag 0x0112: the sides of the stored array that are shown on top and on the left.
SHOWN = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", sorted(SHOWN))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp"])
def test_images_are_oriented_by_their_exif_tag(tmp_path, orientation, suffix):
    path, plain = tmp_path / f"turned.{suffix}", tmp_path / f"plain.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(_pixels()).save(path, exif=exif, **options)
    Image.fromarray(_pixels()).save(plain, **options)
    shown = SHOWN[orientation](_read(plain))
    assert np.array_equal(_read(path), shown)
    assert image_size(path) == shown.shape[:2]
    with Image.open(path) as opened:
        assert np.array_equal(_read(opened), shown)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_does_not_exist_is_ignored(tmp_path, orientation):
    path = tmp_path / "odd.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(_pixels()).save(path, exif=exif)
    assert np.array_equal(_read(path), _pixels())
    assert image_size(path) == (40, 56)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about damaged tags
@pytest.mark.parametrize("content", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"junk"])
def test_a_broken_exif_block_gives_the_image_or_a_refusal(tmp_path, content):
    path = tmp_path / "photo.png"
    Image.fromarray(_pixels()).save(path, exif=content)
    for read in (_read, image_size):
        got, _ = _attempt(read, path)
        assert got is None or np.array_equal(got, _pixels() if read is _read else (40, 56))


def test_16_bit_grey_is_divided_by_257_and_rounded_for_every_value(tmp_path):
    values = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    expected = _grey(np.floor(values / 257 + 0.5))
    big_endian = values.astype(">u2")
    lines = b"".join(b"\0" + line.tobytes() for line in big_endian)
    (tmp_path / "grey.png").write_bytes(_png(256, 256, depth=16, color=0, scanlines=lines))
    Image.fromarray(values).save(tmp_path / "little.tiff")
    Image.frombytes("I;16B", (256, 256), big_endian.tobytes()).save(tmp_path / "big.tiff")
    (tmp_path / "wide.tiff").write_bytes(tiff(values.astype("<u4"), bits=32))
    assert (tmp_path / "little.tiff").read_bytes()[:2] == b"II"
    assert (tmp_path / "big.tiff").read_bytes()[:2] == b"MM"
    for name in ("grey.png", "little.tiff", "big.tiff", "wide.tiff"):
        assert np.array_equal(_read(tmp_path / name), expected), name


@pytest.mark.parametrize("orientation", sorted(SHOWN))
@pytest.mark.parametrize(("mode", "dtype"), [("I;16", "<u2"), ("I;16B", ">u2"), ("L", "u1")])
def test_grey_tiffs_are_oriented_too(tmp_path, orientation, mode, dtype):
    values = np.arange(40 * 56).reshape(40, 56) * 29 % (256 if mode == "L" else 65536)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.frombytes(mode, (56, 40), values.astype(dtype).tobytes())
    stored.save(tmp_path / "grey.tiff", exif=exif)
    shown = SHOWN[orientation](_grey(values if mode == "L" else (values + 128) // 257))
    assert np.array_equal(_read(tmp_path / "grey.tiff"), shown)
    assert image_size(tmp_path / "grey.tiff") == shown.shape[:2]


@pytest.mark.parametrize("value", [65536, 2**31 - 1, 2**32 - 1])
def test_32_bit_grey_beyond_16_bits_is_refused(tmp_path, value):
    values = np.zeros((40, 56), "<u4")
    values[3, 4] = value
    (tmp_path / "grey.tiff").write_bytes(tiff(values, bits=32))
    with pytest.raises(ImageError, match=r"grey values outside 0\.\.65535"):
        read_image(tmp_path / "grey.tiff")


def test_16_bit_colour_keeps_its_high_byte(tmp_path):
    values = np.random.default_rng(0).integers(0, 2**16, (16, 16, 3)).astype(">u2")
    lines = b"".join(b"\0" + line.tobytes() for line in values)
    (tmp_path / "deep.png").write_bytes(_png(16, 16, depth=16, color=2, scanlines=lines))
    assert np.array_equal(_read(tmp_path / "deep.png"), values >> 8)


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.ones((40, 56), np.float32)).save(tmp_path / "depth.tiff")
    with pytest.raises(ImageError, match="got floating point"):
        read_image(tmp_path / "depth.tiff")


def test_palettes_and_bits_and_grey_give_their_colours(tmp_path):
    indices = _pixels(channels=1)[..., 0]
    colors = _pixels(256, 1, seed=1)[:, 0]
    palette = Image.fromarray(indices)
    palette.putpalette(colors.tobytes())
    palette.save(tmp_path / "palette.png")
    assert np.array_equal(_read(tmp_path / "palette.png"), colors[indices])
    Image.fromarray(indices).save(tmp_path / "grey.png")
    assert np.array_equal(_read(tmp_path / "grey.png"), _grey(indices))
    Image.fromarray(indices > 127).save(tmp_path / "bits.png")
    assert np.array_equal(_read(tmp_path / "bits.png"), _grey(255 * (indices > 127)))


def _on_black(colors, alpha):
    return ((colors.astype(int) * alpha.astype(int)[..., None] + 127) // 255).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_transparency_is_flattened_on_black(tmp_path, suffix):
    pixels = _pixels(channels=4)
    path = tmp_path / f"clear.{suffix}"
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    Image.fromarray(pixels).save(path, **options)
    assert np.array_equal(_read(path), _on_black(pixels[..., :3], pixels[..., 3]))


def test_flattening_rounds_to_the_nearest_for_every_colour_and_alpha():
    colors, alpha = (half.astype(np.uint8) for half in np.mgrid[:256, :256])
    image = Image.fromarray(np.dstack([colors, colors, colors, alpha]))
    exact = colors.astype(np.float64) * alpha / 255
    assert np.array_equal(_read(image), _grey(np.floor(exact + 127 / 255)))
    assert np.abs(_read(image)[..., 0] - exact).max() <= 0.5


def test_grey_with_alpha_is_flattened_on_black(tmp_path):
    pixels = _pixels(channels=2)
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    expected = _on_black(np.repeat(pixels[..., :1], 3, axis=2), pixels[..., 1])
    assert np.array_equal(_read(tmp_path / "clear.png"), expected)


def test_transparent_palette_entries_are_flattened_on_black(tmp_path):
    indices = _pixels(channels=1)[..., 0]
    colors, alpha = _pixels(256, 1, seed=1)[:, 0], _pixels(256, 1, 1, seed=2)[:, 0, 0]
    palette = Image.fromarray(indices)
    palette.putpalette(colors.tobytes())
    palette.save(tmp_path / "clear.png", transparency=alpha.tobytes())
    expected = _on_black(colors[indices], alpha[indices])
    assert np.array_equal(_read(tmp_path / "clear.png"), expected)


def test_a_transparent_colour_becomes_black(tmp_path):
    pixels = _pixels()
    pixels[5:9, 5:9] = (1, 2, 3)
    Image.fromarray(pixels).save(tmp_path / "clear.png", transparency=(1, 2, 3))
    expected = pixels.copy()
    expected[5:9, 5:9] = 0
    assert np.array_equal(_read(tmp_path / "clear.png"), expected)


def test_cmyk_is_read_as_pillow_converts_it(tmp_path):
    inks = _pixels(channels=4)
    Image.frombytes("CMYK", (56, 40), inks.tobytes()).save(tmp_path / "print.tiff")
    paper = (255 - inks[..., 3:].astype(int)) * (255 - inks[..., :3].astype(int)) / 255
    assert np.abs(_read(tmp_path / "print.tiff") - paper).max() <= 1


def test_the_first_frame_of_an_animation_counts(tmp_path):
    frames = [Image.fromarray(_pixels(seed=seed)) for seed in range(3)]
    rest = {"save_all": True, "append_images": frames[1:]}
    frames[0].save(tmp_path / "film.webp", lossless=True, **rest)
    frames[0].save(tmp_path / "film.tiff", **rest)
    frames[0].save(tmp_path / "film.png", **rest)
    for name in ("film.webp", "film.tiff", "film.png"):
        with Image.open(tmp_path / name) as film:
            assert len(list(ImageSequence.Iterator(film))) == 3
        assert np.array_equal(_read(tmp_path / name), _pixels()), name


@pytest.mark.parametrize("settings", [SETTINGS, CROPPED])
def test_path_string_image_and_array_give_the_same_input(tmp_path, settings):
    path = tmp_path / "photo.png"
    Image.fromarray(_pixels()).save(path)
    expected, place = preprocess(path, settings)
    assert expected.dtype == np.uint8
    assert expected.shape == (48, 64, 3)
    assert expected.flags.c_contiguous
    with Image.open(path) as opened:
        for source in (str(path), opened, _pixels(), _pixels()[::-1].copy()[::-1]):
            pixels, again = preprocess(source, settings)
            assert np.array_equal(pixels, expected)
            assert again == place


def test_reading_does_not_change_the_callers_image():
    pixels, image = _pixels(), Image.fromarray(_pixels())
    exif = image.getexif()
    exif[0x0112] = 6
    preprocess(pixels, SETTINGS)
    preprocess(image, SETTINGS)
    assert np.array_equal(pixels, _pixels())
    assert np.array_equal(np.asarray(image), _pixels())
    assert image.getexif()[0x0112] == 6


@pytest.mark.parametrize("filter_name", ["bilinear", "bicubic", "lanczos"])
def test_the_resize_is_pillows(filter_name):
    settings = Preprocessing(
        resize="stretch", resize_height=32, resize_width=32, filter=filter_name, height=32, width=32
    )
    image = Image.fromarray(_pixels(100, 77))
    expected = image.resize((32, 32), Image.Resampling[filter_name.upper()])
    assert np.array_equal(preprocess(image, settings)[0], np.asarray(expected))


def test_shrinking_averages_all_pixels_instead_of_skipping_some():
    pixels = np.zeros((640, 640, 3), np.uint8)
    pixels[::2] = 255
    settings = Preprocessing(
        resize="stretch", resize_height=64, resize_width=64, filter="bilinear", height=64, width=64
    )
    inner = preprocess(pixels, settings)[0][2:-2].astype(int)
    assert np.abs(inner - 127.5).max() < 2


@pytest.mark.parametrize(
    ("photo", "resized", "corner"),
    [
        ((71, 71), (71, 71), (11, 3)),
        ((142, 143), (71, 71), (11, 3)),
        ((142, 144), (71, 72), (11, 4)),
        ((144, 142), (72, 71), (12, 3)),
        ((100, 300), (71, 213), (11, 74)),
        ((300, 100), (213, 71), (82, 3)),
        ((99, 100), (71, 71), (11, 3)),
    ],
)
def test_the_longer_side_and_the_crop_are_rounded_down(photo, resized, corner):
    _, place = preprocess(_pixels(*photo), CROPPED)
    assert (place.photo_height, place.photo_width) == photo
    assert (place.resized_height, place.resized_width) == resized
    assert (place.top, place.left) == corner


@pytest.mark.parametrize("photo", [(71, 71), (90, 200), (333, 80), (8, 8), (9, 100)])
def test_the_placement_says_where_the_input_was_cut_from(photo):
    image = Image.fromarray(_pixels(*photo))
    pixels, place = fit_to_input(image, CROPPED)
    size = (place.resized_width, place.resized_height)
    wide = image.resize((place.resized_width, image.height), Image.Resampling.BICUBIC)
    whole = np.asarray(wide.resize(size, Image.Resampling.BICUBIC))  # the width is resized first
    window = whole[place.top : place.top + 48, place.left : place.left + 64]
    assert np.array_equal(pixels, window)


def test_an_image_too_elongated_to_resize_is_refused():
    assert preprocess(_pixels(8, 1800), CROPPED)[0].shape == (48, 64, 3)
    with pytest.raises(ImageError, match="8000 x 8 px is too elongated"):
        preprocess(_pixels(8, 8000), CROPPED)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 100), (100, 7)])
def test_images_below_eight_pixels_are_refused(tmp_path, width, height):
    path = tmp_path / "small.png"
    Image.new("RGB", (width, height)).save(path)
    message = f"expected at least 8 x 8 px, got {width} x {height}"
    for source in (path, Image.new("RGB", (width, height)), np.zeros((height, width, 3), np.uint8)):
        with pytest.raises(ImageError, match=message):
            read_image(source)
    with pytest.raises(ImageError, match=message):
        image_size(path)


def test_the_smallest_image_is_read():
    assert preprocess(_pixels(8, 8), SETTINGS)[0].shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("width", "height"),
    [(8193, 8192), (8192, 8193), (10_000, 8_000), (30_000, 30_000), (2**31 - 1, 2**31 - 1)],
)
def test_a_header_that_promises_too_many_pixels_is_refused_undecoded(tmp_path, width, height):
    path = tmp_path / "bomb.png"
    path.write_bytes(_png(width, height, scanlines=bytes(1000)))
    tracemalloc.start()
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match=rf"bomb\.png: expected at most {MAX_PIXELS} pixels"):
            read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_the_largest_header_is_not_refused_for_its_size(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(_png(8192, 8192, depth=1, color=0, scanlines=bytes(1025 * 8192)))
    assert read_image(path).size == (8192, 8192)


@pytest.mark.parametrize("shape", [(8193, 8192), (8, 2**23 + 1)])
def test_arrays_beyond_the_limit_are_refused(shape):
    endless = np.broadcast_to(np.uint8(0), (*shape, 3))
    with pytest.raises(ImageError, match=f"array: expected at most {MAX_PIXELS} pixels"):
        read_image(endless)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((40, 56, 2), np.uint8),
        np.zeros((40, 56, 4), np.uint8),
        np.zeros((40, 56, 3), np.uint16),
        np.zeros((40, 56), np.int16),
        np.zeros((40, 56), np.float64),
        np.zeros((1, 40, 56, 3), np.uint8),
        np.zeros((40, 56, 3), np.float32),
        np.zeros((40, 56, 3), np.int8),
        np.zeros((40, 56, 3), bool),
    ],
)
def test_arrays_of_another_type_or_shape_are_refused(array):
    with pytest.raises(ImageError, match=r"array: expected uint8 \(H, W, 3\), or grey .*, got"):
        read_image(array)


def _encoded(suffix):
    file = io.BytesIO()
    smooth = np.asarray(Image.fromarray(_pixels(6, 8)).resize((56, 40)))
    Image.fromarray(smooth).save(file, suffix)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about damaged tags
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_a_file_cut_off_anywhere_is_refused_or_still_whole(tmp_path, kind):
    content = _encoded(kind)
    path = tmp_path / "cut.bin"
    path.write_bytes(content)
    whole = _read(path)
    refused = 0
    lengths = sorted({*range(64), *range(64, len(content), 61), len(content) - 1})
    for length in lengths:
        path.write_bytes(content[:length])
        got, refusal = _attempt(_read, path)
        if got is None:
            assert refusal.startswith(str(path))
            assert "\n" not in refusal
            refused += 1
        else:
            assert np.array_equal(got, whole), length
            assert length > 0.9 * len(content), length
    assert refused > 0.9 * len(lengths)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about damaged tags
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path, kind):
    content = bytearray(_encoded(kind))
    path = tmp_path / "damaged.bin"
    rng = np.random.default_rng(0)
    for place in [*range(min(len(content), 150)), *rng.integers(0, len(content), 100)]:
        damaged = bytearray(content)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        for read in (_read, image_size):
            _, refusal = _attempt(read, path)
            assert "\n" not in refusal


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"GIF89a", bytes(5000)])
@pytest.mark.parametrize("name", ["photo.png", "photo.png\u202egnp.exe", "photo.%s{0}\n.jpg"])
def test_a_file_that_is_not_an_image_is_refused_in_one_line(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageError, match="not a readable image") as caught:
        read_image(path)
    assert "PNG, JPEG, BMP, TIFF, WEBP" in str(caught.value)


@pytest.mark.parametrize("kind", ["GIF", "PPM", "ICO", "PDF", "EPS", "TGA", "JPEG2000"])
def test_formats_outside_the_list_are_refused_even_under_a_good_name(tmp_path, kind):
    path = tmp_path / "photo.png"
    Image.fromarray(_pixels()).save(path, kind)
    with pytest.raises(ImageError, match="not a readable image"):
        read_image(path)


def test_a_refusal_does_not_depend_on_other_open_files(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(b"text")
    said = []
    with contextlib.ExitStack() as others:
        for _ in range(2):
            with pytest.raises(ImageError) as caught:
                read_image(path)
            said.append(str(caught.value))
            others.enter_context(path.open("rb"))
    assert said[0] == said[1]


def test_a_pipe_is_refused_without_blocking(tmp_path):
    os.mkfifo(tmp_path / "photo.png")
    with pytest.raises(ImageError, match=r"not a readable image \(.*Not a regular file"):
        read_image(tmp_path / "photo.png")
    with pytest.raises(ImageError, match="Not a regular file"):
        image_size(tmp_path / "photo.png")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ImageError, match=r"absent\.png: no such file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="not a readable image"):
        read_image(tmp_path)
    with pytest.raises(ImageError):
        read_image("")
    with pytest.raises(ImageError):
        read_image("a\0b.png")
