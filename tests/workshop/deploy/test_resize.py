"""The resize inside an exported graph equals Pillow's to the bit, for every filter."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

from patchcore_build.deploy.parts import Parts
from patchcore_build.deploy.resize import resize_and_crop
from patchcore_runtime.image.preprocess import fit_to_input
from patchcore_runtime.manifest.manifest import Preprocessing


def resized(images, settings):
    """Run the graph for images of one size, uint8 (B, H', W', 3)."""
    parts = Parts()
    floats = parts.node("Cast", "image", to=TensorProto.FLOAT)
    planes = parts.node("Transpose", floats, perm=[0, 3, 1, 2])
    fitted = resize_and_crop(parts, planes, images.shape[1:3], settings)
    last = parts.node("Transpose", fitted, perm=[0, 2, 3, 1])
    size = (settings.height, settings.width)
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["B", *images.shape[1:]])
    output = helper.make_tensor_value_info("fitted", TensorProto.FLOAT, ["B", *size, 3])
    model = parts.finished([image], {"fitted": (last, output)}, name="resize", opset=17)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"image": images})[0]


@pytest.mark.parametrize("resample", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    ("photo", "size"),
    [
        ((80, 120), (64, 96)),
        ((50, 33), (64, 96)),
        ((64, 300), (64, 96)),
        ((901, 700), (64, 64)),
        ((64, 96), (64, 96)),
        ((2500, 90), (32, 32)),
    ],
    ids=str,
)
def test_every_pixel_equals_pillows(photo, size, resample):
    rng = np.random.default_rng([*photo, *size])
    noise = rng.integers(0, 256, (2, *photo, 3), dtype=np.uint8)
    # Black beside white overshoots most, and shows a clamp that is missing.
    noise[1] = 255 * (np.indices(photo).sum(axis=0) // 7 % 2)[..., None]
    settings = Preprocessing(
        resize="stretch",
        resize_height=size[0],
        resize_width=size[1],
        filter=resample,
        height=size[0],
        width=size[1],
    )
    got = resized(noise, settings)
    for image, found in zip(noise, got, strict=True):
        expected, _ = fit_to_input(Image.fromarray(image), settings)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("photo", [(100, 140), (140, 100), (70, 400), (72, 72)], ids=str)
def test_a_crop_of_the_shorter_side_equals_pillows(photo):
    settings = Preprocessing(
        resize="shorter_side",
        resize_height=72,
        resize_width=72,
        filter="bilinear",
        height=64,
        width=64,
    )
    image = np.random.default_rng(photo).integers(0, 256, (*photo, 3), dtype=np.uint8)
    expected, _ = fit_to_input(Image.fromarray(image), settings)
    np.testing.assert_array_equal(resized(image[None], settings)[0], expected)
