"""Write features.onnx of an own network, and compare it with the file that it was made of.

FILE.onnx + its description + images -> features.onnx. What the file gives is averaged or pooled in
NumPy, on two real images and a random one, and the new graph must give the same.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from patchcore_build.backbone.neighbourhood import border_weight, pooling_weights
from patchcore_build.config import Config
from patchcore_build.errors import ExportError, SettingError
from patchcore_build.export.own_graph import assembled, folded, grids_of
from patchcore_build.export.own_network import input_of, load_network, run_network
from patchcore_build.feature_layers import OwnNetwork
from patchcore_build.weights.read import digest
from patchcore_runtime.engine.network import check_network
from patchcore_runtime.engine.onnx_model import read_model
from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.files.staging import scratch_folder
from patchcore_runtime.files.whole import write_whole

TOLERANCE = 1e-4  # relative, of features.onnx against the file


def export_own_network(
    source: Path, target: Path, config: Config, images: NDArray[np.uint8], *, seed: int = 0
) -> float:
    """Write features.onnx of a file, and compare it with the file on real and random images.

    Args:
        source: The file that `describe_network` described in `config.network`.
        target: The file to write, whole or not at all.
        config: Network, neighbourhood, pooling and border rule.
        images: Real inputs, uint8 (N, H, W, 3), N >= 1; their size is that of features.onnx.
        seed: Seed of the random images.

    Returns:
        The largest difference of a layer, relative to its largest value.

    Raises:
        ExportError: the file has changed, has an operator that features.onnx may not hold, or
            gives other layers.
        OutputError: `target` cannot be written.
    """
    network = config.network
    if network is None:
        raise SettingError("config.network: expected what describe_network returns, got none")
    if digest(source) != network.sha256:
        raise ExportError(f"{source}: changed since it was described; start again")
    height, width = images.shape[1:3]
    model = load_network(source)
    name, _ = input_of(source, model)
    random = np.random.default_rng(seed).integers(0, 256, (1, height, width, 3), np.uint8)
    tried = np.concatenate([images[:2], random])
    raw = _run_on_images(source, name, network, tried)
    layers = [
        _as_layer(source, array, grid, network.prefix_tokens)
        for array, grid in zip(raw, grids_of(network, (height, width)), strict=True)
    ]
    expected = [_after(layer, config) for layer in layers]
    whole = assembled(model, name, config, network, raw, (height, width))
    shapes = [layer.shape[1:] for layer in expected]
    content = folded(source, whole, (height, width), network, shapes)
    with scratch_folder() as folder:
        path = folder / "features.onnx"
        write_whole(path, content)
        _check(source, path)
        gap = _compare(source, path, tried, expected)
    write_whole(target, content)
    return gap


def _run_on_images(
    path: Path, source: str, network: OwnNetwork, images: NDArray[np.uint8]
) -> list[NDArray[np.float32]]:
    """Run the file itself on uint8 images (B, H, W, 3), normalised in float64."""
    planes = images.transpose(0, 3, 1, 2).astype(np.float64) / 255
    mean, std = (np.reshape(of, (1, 3, 1, 1)) for of in (network.mean, network.std))
    return run_network(path, network.outputs, source, ((planes - mean) / std).astype(np.float32))


def _as_layer(
    path: Path, array: NDArray[np.float32], grid: tuple[int, int], prefix: int
) -> NDArray[np.float32]:
    """Return an output as a layer (B, C, h, w)."""
    if array.ndim == 3 and array.shape[1] == prefix + grid[0] * grid[1]:
        patches: NDArray[np.float32] = array[:, prefix:].transpose(0, 2, 1)
        return patches.reshape(*patches.shape[:2], *grid)
    if array.ndim == 4 and array.shape[2:] == grid:
        return array
    if array.ndim == 4 and array.shape[1:3] == grid:
        planes: NDArray[np.float32] = array.transpose(0, 3, 1, 2)
        return planes
    raise ExportError(
        f"{path}: expected a grid of {grid[0]} x {grid[1]} for this input, got {array.shape}; "
        "name the side of a patch by --patch"
    )


def _after(layer: NDArray[np.float32], config: Config) -> NDArray[np.float32]:
    side = config.neighbourhood
    reach = side // 2
    padded = np.pad(layer.astype(np.float64), ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(2, 3))
    if config.pool_to:
        layers = len(config.plan.names)
        weights = pooling_weights(layer.shape[1], side, config.pool_to // layers, layers)
        found = np.einsum("bchwij,ocij->bohw", windows, weights, optimize=True)
    else:
        found = windows.mean(axis=(4, 5))
        if config.pooling_border == "not_counted":
            height, width = layer.shape[2:]
            found = found * border_weight((height, width), side)
    result: NDArray[np.float32] = found.astype(np.float32)
    return result


def _check(source: Path, path: Path) -> None:
    """Refuse what no reader would take, in words about the file that was given."""
    try:
        check_network(path, read_model(path))
    except ArtifactError as error:
        reason = str(error).removeprefix(f"{path}: ").removesuffix("; copy the folder again")
        raise ExportError(
            f"{source}: {reason}; artifacts/FORMAT.md lists what features.onnx may hold: export "
            "the network with a free batch, by torch.onnx.export(dynamo=True) for instance"
        ) from None


def _compare(
    source: Path,
    path: Path,
    images: NDArray[np.uint8],
    expected: Sequence[NDArray[np.float32]],
) -> float:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    outputs = [session.run(names, {"images": image[None]}) for image in images]
    got = [np.concatenate(layer) for layer in zip(*outputs, strict=True)]
    worst = 0.0
    for name, layer, truth in zip(names, got, expected, strict=True):
        gap = float(np.abs(layer - truth).max() / max(float(np.abs(truth).max()), 1e-30))
        if not gap <= TOLERANCE:  # this also refuses NaN
            raise ExportError(
                f"{source}: {name}: expected the file's own values within {TOLERANCE:g} of the "
                f"largest, got {gap:g}; export the network in float32"
            )
        worst = max(worst, gap)
    return worst
