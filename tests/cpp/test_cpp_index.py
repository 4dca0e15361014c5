"""Both programs write the same index.onnx for a bank: C++ accepts Python's file, to the byte."""

import pytest

from cpp_binary import needs_binary
from cpp_runs import run
from layered_artifact import make_layered

pytestmark = needs_binary

LAYERS = {
    "one": [("block11", 6, 1)],
    "two": [("layer2", 8, 1), ("layer3", 12, 2)],
    "two of one shape": [("block3", 5, 1), ("block7", 5, 1)],
    "three grids": [("layer1", 4, 1), ("layer2", 5, 2), ("layer3", 6, 4)],
    "four, strides of no power of two": [
        ("output0", 4, 1),
        ("output1", 3, 3),
        ("output2", 5, 3),
        ("output3", 4, 6),
    ],
}


@pytest.mark.parametrize(
    ("precision", "upsampling"), [("float32", "bilinear"), ("float16", "nearest")]
)
@pytest.mark.parametrize("rows", [1, 64, 4170])  # a rest, one whole group, several blocks
@pytest.mark.parametrize("layers", LAYERS)
def test_the_index_of_any_bank_is_accepted(layers, rows, precision, upsampling, tmp_path):
    made = make_layered(
        tmp_path / "made",
        LAYERS[layers],
        patch_px=2,
        size=(48, 72),
        rows=rows,
        precision=precision,
        upsampling=upsampling,
    )
    code, out, err = run(made, made / "selftest.png", "--search", "engine")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1
