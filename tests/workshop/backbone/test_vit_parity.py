"""DINOv2 beside timm and Hugging Face with the same random weights, from files with their names.

Both need torch, which the workshop does not: `pip install -r benchmarks/parity/requirements.txt`
into an environment of its own. `python -m benchmarks.parity` prints the table for whole models.
"""

import mindspore as ms
import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.parity.peers import draw_official, hugging_face_peer, timm_peer
from patchcore_build.backbone.device import open_device
from patchcore_build.backbone.vit.cell import VisionTransformer
from patchcore_build.backbone.vit.positions import interpolate_positions
from patchcore_build.backbone.vit.prepare import prepare_parameters
from patchcore_build.vision_transformers import VITS, VitShape, official_shapes
from patchcore_build.weights.match import match_weights
from patchcore_build.weights.read import read_weights

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

PLAIN = VitShape(width=128, blocks=3)
WITH_REGISTERS = VitShape(width=128, blocks=3, registers=4, offset=0.0, antialias=True)
ROTARY = VitShape(width=128, blocks=3, registers=4, patch_px=16, epsilon=1e-5, rotary=True)
PEERS = {"timm": timm_peer, "transformers": hugging_face_peer}
SIDE = 6  # of the grid of positions


@pytest.fixture(autouse=True, scope="module")
def _device():
    open_device()


def official_of(shape):
    sides = official_shapes(shape)
    if not shape.rotary:
        sides["pos_embed"] = (1, 1 + SIDE * SIDE, shape.width)
    return draw_official(sides, seed=1)


def layers_of(shape, official, images):
    height, width = images.shape[2:]
    blocks = range(1, shape.blocks + 1)
    cell = VisionTransformer(shape, height=height, width=width, blocks=blocks)
    prepared = prepare_parameters(official, shape, blocks=shape.blocks, grid=cell.grid)
    for name, parameter in cell.parameters_and_names():
        parameter.set_data(ms.Tensor(prepared[name]))
    return [layer.asnumpy() for layer in cell.set_train(False)(ms.Tensor(images))]


@pytest.mark.parametrize("grid", [(6, 6), (4, 9)], ids=["trained", "other"])
@pytest.mark.parametrize("shape", [PLAIN, WITH_REGISTERS, ROTARY], ids=["plain", "reg", "v3"])
@pytest.mark.parametrize("name", PEERS)
def test_every_block_is_the_peers(tmp_path, name, shape, grid):
    for needed in ("torch", name):
        pytest.importorskip(needed, reason=f"{needed}: benchmarks/parity/requirements.txt")
    peer = PEERS[name](shape, official_of(shape))
    path = tmp_path / "model.safetensors"
    save_file(peer.state, path)
    found = match_weights(read_weights(path), official_shapes(shape), source=str(path))
    size = tuple(side * shape.patch_px for side in grid)
    images = np.random.default_rng(2).standard_normal((2, 3, *size)).astype(np.float32)
    for ours, theirs in zip(layers_of(peer.shape, found, images), peer.run(images), strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("shape", [VITS["dinov2_vits14"], VITS["dinov2_vits14_reg"]], ids=str)
@pytest.mark.parametrize("grid", [(32, 32), (16, 45), (50, 37)])
def test_positions_are_interpolated_as_the_original_calls_torch(shape, grid):
    torch = pytest.importorskip("torch", reason="torch: benchmarks/parity/requirements.txt")
    plane = np.random.default_rng(3).standard_normal((37, 37, 4)).astype(np.float32)
    ours = interpolate_positions(plane, *grid, offset=shape.offset, antialias=shape.antialias)
    # As models/vision_transformer.py of facebookresearch/dinov2 calls it.
    size = {"size": grid}
    if shape.offset:
        size = {"scale_factor": tuple(float(side + shape.offset) / 37 for side in grid)}
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(plane)[None].permute(0, 3, 1, 2),
        mode="bicubic",
        antialias=shape.antialias,
        **size,
    )
    assert theirs.shape[2:] == grid
    np.testing.assert_allclose(ours, theirs[0].permute(1, 2, 0).numpy(), atol=2e-5)
