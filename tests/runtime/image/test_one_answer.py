"""Laws of the one way in: every form of an image gives the same pixels, or one clear refusal."""

import ast
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from image_mutations import encode_png
from patchcore_runtime.errors import ImageError, ImageWarning
from patchcore_runtime.image.decode import image_size, largest_grey, read_image
from patchcore_runtime.image.limits import MAX_PIXELS
from patchcore_runtime.image.preprocess import preprocess, read_photograph
from patchcore_runtime.manifest.manifest import Preprocessing
from places import ROOT
from tiff_files import tiff

SETTINGS = Preprocessing(
    resize="stretch", resize_height=48, resize_width=64, filter="bilinear", height=48, width=64
)
GREY = (np.arange(40 * 56).reshape(40, 56) * 37 % 256).astype(np.uint8)
TWELVE = (GREY.astype(int) * 4095 // 255).astype(np.uint16)


def _rgb(image):
    return np.asarray(image)


def _same_within_a_level(image, grey):
    return np.abs(_rgb(image).astype(int) - grey[..., None]).max() <= 1


def _encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _with_exif(jpeg, block):
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(block)) + block + jpeg[2:]


# Modules that open images which the program wrote itself.
OWN_IMAGES = {"thumbnails.py", "cpp_maps.py", "image_sheet.py"}


def test_only_one_module_decodes_images_of_strangers():
    opening = []
    for path in [*(ROOT / "runtime").rglob("*.py"), *(ROOT / "build").rglob("*.py")]:
        calls = [
            node.func
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        ]
        opens = [f for f in calls if isinstance(f, ast.Attribute) and f.attr == "open"]
        if any(isinstance(f.value, ast.Name) and f.value.id == "Image" for f in opens):
            opening.append(path.name)
    assert sorted(opening) == sorted({"decode.py", *OWN_IMAGES})


# The damages of the field: no TIFF head, an entry that is cut off, an offset far behind the end.
DAMAGED = [
    b"Exif\0\0" + bytes([0, 8, 0, 0]) + bytes(range(60)),
    b"Exif\0\0II*\0\x08\0\0\0\x03\0\x12\x01\x03\0\x01\0\0\0\x06",
    b"Exif\0\0MM\0*" + struct.pack(">I", 2**31 - 8),
    b"Exif\0\0",
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about damaged tags
@pytest.mark.parametrize("block", DAMAGED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_counts_as_orientation_1(block, kind):
    plain = Image.fromarray(GREY).convert("RGB")
    clean = _encoded(plain, kind)
    damaged = _with_exif(clean, block) if kind == "JPEG" else _encoded(plain, kind, exif=block)
    for source in (damaged, Image.open(io.BytesIO(damaged))):
        assert np.array_equal(_rgb(read_image(source)), _rgb(read_image(clean)))
        assert image_size(source) == GREY.shape


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=60, deadline=None)
@given(
    st.binary(min_size=0, max_size=60),
    st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b""]),
)
def test_any_exif_gives_the_same_answer_however_often_it_is_read(noise, head):
    jpeg = _encoded(Image.fromarray(GREY), "JPEG")
    damaged = _with_exif(jpeg, b"Exif\0\0" + head + noise)
    image = read_image(damaged)
    assert image_size(damaged) == image.size[::-1]
    opened = Image.open(io.BytesIO(damaged))
    opened.getexif()
    assert np.array_equal(_rgb(read_image(opened)), _rgb(image))


def test_bits_that_a_tiff_declares_give_its_white_level():
    declared = tiff(TWELVE, bits=12)
    assert _same_within_a_level(read_image(declared), GREY)
    # An artifact's own white level is for files that declare nothing.
    assert np.array_equal(_rgb(read_image(declared, white_level=1023)), _rgb(read_image(declared)))


@pytest.mark.parametrize("white", [4095, 65535])
def test_white_may_be_0_in_16_bits(white):
    deep = GREY.astype(int) * white // 255
    content = tiff((white - deep).astype("<u2"), bits=16, photometric=0)
    assert _same_within_a_level(read_image(content, white_level=white), GREY)


@pytest.mark.parametrize(("bits", "kind"), [(8, "i1"), (16, "<i2"), (32, "<i4")])
def test_signed_integers_are_refused(bits, kind):
    content = tiff((GREY // 4).astype(kind), bits=bits, sample_format=2)
    with pytest.raises(ImageError, match="expected unsigned pixels, got signed integers"):
        read_image(content)


@pytest.mark.parametrize("white", [1023, 4095, 16383, 65535])
def test_the_white_level_scales_16_bits(white):
    deep = (GREY.astype(np.uint32) * white // 255).astype(np.uint16)
    png = _encoded(Image.fromarray(deep), "PNG")
    for source in (png, deep, deep[..., None], Image.fromarray(deep), tiff(deep, bits=16)):
        assert _same_within_a_level(read_image(source, white_level=white), GREY)
    assert largest_grey(png) == deep.max()


def test_values_beyond_the_white_level_are_refused():
    with pytest.raises(ImageError, match="up to the white level 1023, got 4095"):
        read_image(TWELVE, white_level=1023)


@pytest.mark.parametrize("source", [TWELVE, tiff(TWELVE, bits=16)], ids=["array", "file"])
def test_an_image_in_a_sixteenth_of_its_range_is_named(source):
    notes = []
    read_image(source, notes=notes)
    assert len(notes) == 1
    assert "up to 4095 of 65535" in notes[0]
    assert "--white-level" in notes[0]
    with pytest.warns(ImageWarning, match="almost black"):
        read_image(source)
    for white in (4095, 16383):
        read_image(source, white_level=white, notes=notes)
    read_image((TWELVE + 1).astype(np.uint16), notes=notes)
    assert len(notes) == 1


def _deep_color(values):
    import zlib

    lines = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 56, 40, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines)),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*parts, (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + body


def test_deep_colour_is_named_when_dark_and_refused_with_a_white_level():
    bright = np.stack([GREY.astype(np.uint16) * 257] * 3, axis=-1)
    notes = []
    read_image(_deep_color(bright), notes=notes)
    assert notes == []
    read_image(_deep_color(bright // 17), notes=notes)
    assert len(notes) == 1
    with pytest.raises(ImageError, match="white level 4095, got colours of 16 bits"):
        read_image(_deep_color(bright), white_level=4095)


def _clear(mode):
    rgba = np.dstack([GREY, GREY, GREY, np.zeros_like(GREY)])
    return Image.fromarray(rgba).convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_an_image_that_is_transparent_everywhere_counts_as_opaque(mode, kind):
    content = _encoded(_clear(mode), kind)
    assert np.array_equal(_rgb(read_image(content)), np.repeat(GREY[..., None], 3, axis=2))


def test_one_visible_pixel_keeps_the_others_black():
    rgba = np.dstack([GREY, GREY, GREY, np.zeros_like(GREY)])
    rgba[3, 4, 3] = 255
    pixels = _rgb(read_image(_encoded(Image.fromarray(rgba), "PNG")))
    assert pixels.sum() == 3 * int(GREY[3, 4])


def test_every_source_of_one_image_gives_the_same_pixels(tmp_path):
    color = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])
    path = tmp_path / "photo.png"
    Image.fromarray(color).save(path)
    content = path.read_bytes()
    sources = [
        str(path),
        path,
        content,
        bytearray(content),
        memoryview(content),
        io.BytesIO(content),
    ]
    with path.open("rb") as file:
        for source in [*sources, file, Image.fromarray(color), color]:
            assert np.array_equal(_rgb(read_image(source)), color)
    assert np.array_equal(_rgb(read_image(color[..., ::-1], channel_order="bgr")), color)
    for grey in (GREY, GREY[..., None], GREY.astype(np.uint16) * 257):
        assert np.array_equal(_rgb(read_image(grey)), np.repeat(GREY[..., None], 3, axis=2))


@pytest.mark.parametrize("source", [None, 3, [GREY], {"a": 1}, io.StringIO("x"), object(), 1.5])
def test_everything_else_is_one_refusal(source):
    with pytest.raises(ImageError, match=r"expected a path, bytes, a file .* got "):
        read_image(source)


def test_a_channel_order_that_does_nothing_is_refused():
    with pytest.raises(ImageError, match='"bgr" applies to arrays only'):
        read_image(_encoded(Image.fromarray(GREY), "PNG"), channel_order="bgr")
    with pytest.raises(ImageError, match='expected "rgb" or "bgr", got'):
        read_image(GREY, channel_order="gbr")


@pytest.mark.parametrize("size", [(8, 2**23), (2**23, 8), (8, 2**18), (2**18, 8)])
def test_an_elongated_image_is_refused_before_a_pixel_is_decoded(size):
    """The file has few bytes of pixels, so that a decoder would complain of that."""
    width, height = size
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    cut = encode_png([(b"IHDR", header), (b"IDAT", zlib.compress(bytes(9))[:8])])
    wide = Preprocessing(
        resize="stretch",
        resize_height=512,
        resize_width=512,
        filter="bilinear",
        height=512,
        width=512,
    )
    with pytest.raises(ImageError, match="too elongated to resize"):
        read_photograph(cut, wide)


@pytest.mark.parametrize("turn", [False, True])
def test_the_largest_shapes_are_accepted(turn):
    """The product of a side and the other side's resize may reach the bound, and not exceed it."""
    length = MAX_PIXELS // SETTINGS.resize_width
    size = (8, length) if turn else (length, 8)
    if turn:
        length = MAX_PIXELS // SETTINGS.resize_height
        size = (8, length)
    image = Image.new("RGB", size[::-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert preprocess(image, SETTINGS)[0].shape == (48, 64, 3)
    longer = Image.new("RGB", (size[1] + 1, 8) if turn else (8, size[0] + 1))
    with pytest.raises(ImageError, match="too elongated"):
        preprocess(longer, SETTINGS)
