"""Write a whole detector as one ONNX file: photographs or inputs -> score, verdict and map.

artifact -> FILE.onnx: `image` uint8 (B, H', W', 3) -> `score` (B), `is_anomalous` (B),
`anomaly_map` (B, H, W), `patch_distances` (B, h, w). Network, search, scoring and, if wanted, the
resize are joined. The file is compared with the artifact's own detector before it is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, version_converter
from PIL import Image

from patchcore_build.deploy.new_files import check_new_files, data_file, new_files
from patchcore_build.deploy.parts import OPSETS, Parts, at_opset, opset_of
from patchcore_build.deploy.resize import resize_and_crop
from patchcore_build.deploy.scores import ScoreNodes, Searched
from patchcore_build.errors import ExportError, require
from patchcore_runtime.artifact.folder import (
    FEATURES_ONNX,
    INDEX_ONNX,
    SELFTEST_IMAGE,
    SELFTEST_INPUT,
    Artifact,
)
from patchcore_runtime.detector import Detector
from patchcore_runtime.engine.session import open_graph
from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.files.regular import read_regular
from patchcore_runtime.image.decode import read_image
from patchcore_runtime.image.placement import place_input
from patchcore_runtime.search.exact_graph import block_starts

TOLERANCE = 1e-4  # relative, of score and map against the artifact's detector
OUTPUTS = ("score", "is_anomalous", "anomaly_map", "patch_distances")
_MOST_BYTES = 2**31 - 1  # of a graph
_MOST_INSIDE = 2**31 - 2**20  # bytes of numbers; protobuf holds less than 2^31 in all


@dataclass(frozen=True, kw_only=True)
class OneFile:
    """Settings of an export.

    `photo_size` is the height and width of photographs that the file resizes itself; None: it takes
    inputs of the artifact's own size. With `external` the numbers lie in FILE.onnx.data.
    """

    opset: int = 17
    photo_size: tuple[int, int] | None = None
    external: bool = False

    def __post_init__(self) -> None:
        require(self.opset in OPSETS, "--opset", f"{OPSETS[0]} to {OPSETS[-1]}", self.opset)
        if self.photo_size is not None:
            fits = all(8 <= side <= 8192 for side in self.photo_size)
            require(fits, "--photo-size", "8 to 8192 px each", self.photo_size)


@dataclass(frozen=True, kw_only=True)
class OneFileReport:
    """What was written, and how far it is from the artifact's own detector."""

    file: Path
    opset: int
    input_size: tuple[int, int]  # H', W'
    score_difference: float  # relative
    map_difference: float  # relative to the map's largest value
    replaced_index: str | None  # the artifact's approximate index, which an exact search replaces


def export_one_file(
    artifact: Artifact, target: Path, settings: OneFile, *, named: Path | None = None
) -> OneFileReport:
    """Write the file, whole or not at all.

    Args:
        artifact: Any artifact; an approximate index is replaced by the exact search.
        target: The file to write; missing folders are created.
        settings: Opset, photographs and where the numbers are.
        named: The file in messages and in the report, if it will be moved; default `target`.

    Raises:
        ExportError: the network needs a newer opset, the numbers do not fit into one file, or the
            file gives other results than the artifact.
        OutputError: the target or its file of numbers exists, or cannot be written.
    """
    check_new_files(target, data_file(target))
    model = build_model(artifact, settings)
    numbers = sum(tensor.ByteSize() for tensor in model.graph.initializer)
    if numbers > _MOST_INSIDE and not settings.external:
        raise ExportError(
            f"{named or target}: expected at most {_MOST_INSIDE} bytes of numbers in one file, "
            f"got {numbers}; add --external"
        )
    with new_files(target) as folder:
        written = folder / target.name
        _save(model, written, external=settings.external)
        return _compare(artifact, written, named or target, settings)


def least_opset(artifact: Artifact) -> int:
    """Return the oldest opset that the artifact's network allows, 17 or newer.

    Raises:
        ExportError: the network needs one that is newer than all that are offered.
    """
    path = artifact.path(FEATURES_ONNX)
    own = opset_of(_graph_of(artifact, FEATURES_ONNX))
    if own > OPSETS[-1]:
        raise ExportError(
            f"{path}: expected opset {OPSETS[-1]} or older, got {own}; export your network with "
            "an older opset and fit again"
        )
    return max(OPSETS[0], own)


def _graph_of(artifact: Artifact, name: str) -> Any:
    """Read one of the artifact's graphs, with the rows that lie in memory_bank.bin."""
    content = read_regular(artifact.path(name), limit=_MOST_BYTES, own=True)
    model = onnx.load_from_string(content)
    onnx.load_external_data_for_model(model, str(artifact.folder))
    return model


def build_model(artifact: Artifact, settings: OneFile) -> Any:
    """Join the graphs of an artifact.

    Raises:
        ExportError: the network needs a newer opset than the one that is wanted.
    """
    manifest, opset = artifact.manifest, settings.opset
    parts = Parts()
    input_size = settings.photo_size or (manifest.preprocess.height, manifest.preprocess.width)
    tiles = _tiles(parts, artifact, settings)
    network = _graph_of(artifact, FEATURES_ONNX)
    own = opset_of(network)
    if own > opset:
        raise ExportError(
            f"{artifact.path(FEATURES_ONNX)}: expected opset {opset} or older, got {own}; "
            f"export with --opset {own} or newer"
        )
    parts.include(
        _converted(artifact.path(FEATURES_ONNX), network, opset), "network/", {"images": tiles}
    )
    layers = {name: f"network/{name}" for name in manifest.layout.names}
    search = _graph_of(artifact, INDEX_ONNX)
    parts.include(_converted(artifact.path(INDEX_ONNX), search, opset), "search/", layers)
    found = ScoreNodes(parts, artifact).add(_searched(parts, artifact))
    threshold = parts.constant(_rounded_down(manifest.calibration.image_threshold))
    verdict = parts.node("Greater", found.score, threshold)
    height, width = manifest.preprocess.height, manifest.preprocess.width
    cells = manifest.grid.cells
    shapes: dict[str, tuple[str, int, Sequence[int]]] = {
        "score": (found.score, TensorProto.FLOAT, ()),
        "is_anomalous": (verdict, TensorProto.BOOL, ()),
        "anomaly_map": (found.anomaly_map, TensorProto.FLOAT, (height, width)),
        "patch_distances": (found.distances, TensorProto.FLOAT, cells),
    }
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["B", *input_size, 3])
    outputs = {
        name: (value, helper.make_tensor_value_info(name, kind, ["B", *sides]))
        for name, (value, kind, sides) in shapes.items()
    }
    return parts.finished([image], outputs, name="patchcore", opset=opset)


def _converted(path: Path, model: Any, opset: int) -> Any:
    try:
        return at_opset(model, opset)
    except (RuntimeError, version_converter.ConvertError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ExportError(
            f"{path}: cannot be converted from opset {opset_of(model)} to {opset} "
            f"({reason[:160]}); choose another --opset"
        ) from None


def _rounded_down(threshold: float) -> NDArray[np.float32]:
    """Return the largest float32 that is not above: a float32 exceeds both or neither."""
    nearest = np.array(threshold, np.float32)
    below = np.nextafter(nearest, np.array(-np.inf, np.float32))
    return np.where(nearest > threshold, below, nearest)


def _tiles(parts: Parts, artifact: Artifact, settings: OneFile) -> str:
    """Add the resize and the cut into tiles: `image` -> uint8 (T·B, h, w, 3)."""
    manifest, pixels = artifact.manifest, "image"
    if settings.photo_size is not None:
        floats = parts.node("Cast", "image", to=TensorProto.FLOAT)
        planes = parts.node("Transpose", floats, perm=[0, 3, 1, 2])
        fitted = resize_and_crop(parts, planes, settings.photo_size, manifest.preprocess)
        last = parts.node("Transpose", fitted, perm=[0, 2, 3, 1])
        pixels = parts.node("Cast", last, to=TensorProto.UINT8)
    grid = manifest.grid
    if grid.tiles == 1:
        return pixels
    height, width = grid.tile_px
    axes = parts.numbers(1, 2)
    tiles = [
        parts.node(
            "Slice",
            pixels,
            parts.numbers(top, left),
            parts.numbers(top + height, left + width),
            axes,
        )
        for top, left in grid.corners_px
    ]
    return parts.node("Concat", *tiles, axis=0)


def _searched(parts: Parts, artifact: Artifact) -> Searched:
    """Name what the search computes, and the rows of its blocks as one tensor."""
    bank, layers = artifact.memory_bank, artifact.manifest.layout.layers
    half = "_half" if bank.precision == "float16" else ""
    banks = []
    if artifact.manifest.scoring.image_score in ("paper", "modelzoo"):
        for at in range(len(layers)):
            blocks = [
                f"search/m{at}_{block}{half}" for block in range(len(block_starts(bank.rows)))
            ]
            whole = blocks[0] if len(blocks) == 1 else parts.node("Concat", *blocks, axis=0)
            banks.append(parts.node("Cast", whole, to=TensorProto.FLOAT) if half else whole)
    return Searched(
        distances="search/distances",
        rows="search/rows",
        queries=tuple(
            f"search/q{at}" if layer.stride == 1 else f"search/q{at}_fine"
            for at, layer in enumerate(layers)
        ),
        bank=tuple(banks),
    )


def _save(model: Any, path: Path, *, external: bool) -> None:
    if external:
        onnx.save_model(
            model,
            str(path),
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            location=data_file(path).name,
            size_threshold=1024,
        )
        data_file(path).chmod(path.stat().st_mode)  # onnx makes it unreadable for others
    else:
        path.write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path))


def _compare(artifact: Artifact, written: Path, target: Path, settings: OneFile) -> OneFileReport:
    """Compare the file with the artifact's detector on the self-test's image, twice in one batch.

    Raises:
        ExportError: a difference is above `TOLERANCE`.
    """
    image = _image_of(artifact, settings)
    try:
        batch = np.stack([image[:, ::-1], image])
        found = open_graph(written, written).run(OUTPUTS, {"image": batch})
    except ArtifactError as error:
        raise ExportError(f"{target}: onnxruntime cannot run this export ({error})") from None
    score, verdict, heat, distances = found
    detector = Detector(artifact, search="exact")
    if settings.photo_size is None:
        height, width = image.shape[:2]
        place = place_input(height, width, artifact.manifest.preprocess)
        expected = detector.predict_input(image, place)
    else:
        expected = detector.predict(image)
    gaps = {
        "score": abs(float(score[1]) - expected.score) / max(expected.score, 1e-12),
        "anomaly_map": _gap(heat[1], expected.anomaly_map),
        "patch_distances": _gap(distances[1], expected.patch_distances),
    }
    worst = max(gaps, key=lambda name: gaps[name])
    if not gaps[worst] <= TOLERANCE or bool(verdict[1]) != (
        float(score[1]) > artifact.manifest.calibration.image_threshold
    ):
        raise ExportError(
            f"{target}: {worst}: expected the artifact's own results within {TOLERANCE:g}, got "
            f"{gaps[worst]:g}; do not use this export, and report it"
        )
    index = artifact.manifest.index.kind
    return OneFileReport(
        file=target,
        opset=settings.opset,
        input_size=(image.shape[0], image.shape[1]),
        score_difference=gaps["score"],
        map_difference=gaps["anomaly_map"],
        replaced_index=None if index == "exact" else index,
    )


def _image_of(artifact: Artifact, settings: OneFile) -> NDArray[np.uint8]:
    if settings.photo_size is None:
        return np.asarray(read_image(artifact.path(SELFTEST_INPUT)))
    height, width = settings.photo_size
    photo = read_image(artifact.path(SELFTEST_IMAGE))
    return np.asarray(photo.resize((width, height), Image.Resampling.BICUBIC))


def _gap(got: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(got - expected).max() / max(float(expected.max()), 1e-12))
