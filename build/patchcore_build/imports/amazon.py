"""A folder of amazon's patchcore-inspection -> the detector that it describes.

Facts about patchcore-inspection: `patchcore_params.pkl` is a pickle of a plain dict, and
`nnscorer_search_index.faiss` an IndexFlatL2 whose vectors are the bank. The network is
torchvision's with its ImageNet weights. The folder lacks these weights and the resize before the
central crop. Patches of layers are pooled to `pretrain_embed_dimension` numbers each, and to
`target_embed_dimension` in all. Scores and maps are squared distances; the score is the largest
one. Distances are upsampled bilinearly and smoothed by SciPy's Gaussian of 4 px, whose border
repeats the last pixel.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_build.errors import ModelError, require
from patchcore_build.imports.original import Original, check_input, check_layers, check_rows
from patchcore_build.weights.read import digest, read_weights
from patchcore_build.weights.torch_checkpoint import refused
from patchcore_build.weights.torch_pickle import quote, run_pickle
from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.files.cursor import FileCursor, expect
from patchcore_runtime.files.regular import open_regular
from patchcore_runtime.files.strict_json import build
from patchcore_runtime.manifest.manifest import Preprocessing, Scoring

PARAMETERS, INDEX = "patchcore_params.pkl", "nnscorer_search_index.faiss"
_BACKBONES = {
    "resnet50": "resnet50",
    "resnet101": "resnet101",
    "wideresnet50": "wide_resnet50_2",
    "wideresnet101": "wide_resnet101_2",
    # Not in the original, but in many copies of it.
    "resnet18": "resnet18",
    "resnet34": "resnet34",
}
_KEYS = (
    "backbone.name", "layers_to_extract_from", "input_shape", "pretrain_embed_dimension",
    "target_embed_dimension", "patchsize", "patchstride", "anomaly_scorer_num_nn",
)  # fmt: skip
_SIGMA_PX = 4.0
_MOST_CHANNELS = 2**16
_FLAT = b"IxF2"
_METRIC_L2 = 1


def open_amazon(folder: Path, *, weights: Path, resize_px: int) -> Original:
    """Read a folder that patchcore-inspection saved.

    Args:
        folder: It has `patchcore_params.pkl` and `nnscorer_search_index.faiss`.
        weights: The network's parameters, which the folder lacks.
        resize_px: Shorter side of the photograph before the crop, which the folder lacks, too.

    Raises:
        ModelError: a file is missing, hostile, or describes something that an artifact does not
            compute.
        WeightsError: `weights` cannot be read.
    """
    _refuse_ensemble(folder)
    path = folder / PARAMETERS
    found = _read_parameters(path)
    source = str(path)
    name = found["backbone.name"]
    require(
        isinstance(name, str) and name in _BACKBONES,
        f"{source}: backbone.name",
        f"one of {', '.join(_BACKBONES)}",
        quote(name),
        error=ModelError,
    )
    layers = check_layers(source, found["layers_to_extract_from"])
    pool_to = _pooling(source, found, len(layers))
    preprocess = _preprocess(source, found["input_shape"], resize_px)
    check_input(source, preprocess, layers)
    rows = read_flat_index(folder / INDEX, columns=pool_to)
    files = {
        "library": "patchcore-inspection",
        "file": PARAMETERS,
        "sha256": digest(path),
        "index": INDEX,
        "index_sha256": digest(folder / INDEX),
        "weights": {"name": weights.name, "sha256": digest(weights)},
    }
    return Original(
        source=str(folder),
        library="patchcore-inspection",
        backbone=_BACKBONES[name],
        layers=layers,
        neighbourhood=found["patchsize"],
        pool_to=pool_to,
        weights=read_weights(weights),
        rows=rows,
        neighbours=1,
        preprocess=preprocess,
        scoring=Scoring(
            image_score="max",
            distance="squared",
            sigma_px=_SIGMA_PX,
            map_upsampling="bilinear",
            map_border="repeated",
        ),
        thresholds=None,
        notes=(),
        provenance=files,
    )


def _refuse_ensemble(folder: Path) -> None:
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise ModelError(
            f"{folder}: expected a folder of patchcore-inspection, got {error.strerror}"
        ) from None
    members = sum(name.startswith("Ensemble-") and name.endswith(INDEX) for name in names)
    if members:
        raise ModelError(
            f"{folder}: expected one model, got an ensemble of {members}, whose scores are scaled "
            "by those of a test set; an artifact is one model"
        )


def _read_parameters(path: Path) -> dict[str, Any]:
    """The dict in the pickle; nothing in it may be an object or a call."""
    expected = "the parameters that patchcore-inspection wrote"
    with refused(path, expected, "copy the folder again", error_type=ModelError):
        with open_regular(path) as file:
            value, storages = run_pickle(file)
        if not isinstance(value, dict) or storages:
            raise ValueError(f"it holds {quote(value)}")
        missing = [key for key in _KEYS if key not in value]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        return value


def _pooling(source: str, found: dict[str, Any], layers: int) -> int:
    """D, the numbers of a row; refuse patches and pooling that `pool_to` does not compute."""
    wanted = {"patchsize": (1, 3, 5), "patchstride": (1,), "anomaly_scorer_num_nn": (1,)}
    for key, choices in wanted.items():
        known = type(found[key]) is int and found[key] in choices
        words = " or ".join(map(str, choices))
        require(known, f"{source}: {key}", words, quote(found[key]), error=ModelError)
    size, each = found["target_embed_dimension"], found["pretrain_embed_dimension"]
    counted = type(size) is int and 1 <= size <= _MOST_CHANNELS and size % layers == 0
    words = f"a multiple of the {layers} layers up to {_MOST_CHANNELS}"
    require(counted, f"{source}: target_embed_dimension", words, quote(size), error=ModelError)
    require(
        type(each) is int and each == size,
        f"{source}: pretrain_embed_dimension",
        f"{size}, the target_embed_dimension",
        quote(each),
        error=ModelError,
    )
    return int(size)


def _preprocess(source: str, shape: object, resize_px: int) -> Preprocessing:
    """Shorter side to `resize_px`, then the central crop of the input's size."""
    sides = shape if isinstance(shape, list | tuple) else ()
    fits = len(sides) == 3 and all(type(side) is int and 0 < side < 2**20 for side in sides)
    where = f"{source}: input_shape"
    fits = fits and sides[0] == 3
    require(fits, where, "3 channels, height and width", quote(shape), error=ModelError)
    height, width = sides[1:]
    document = {
        "resize": "shorter_side",
        "resize_height": resize_px,
        "resize_width": resize_px,
        "filter": "bilinear",
        "height": height,
        "width": width,
    }
    try:
        return build(
            Preprocessing, document, f"{source}: input", advice="choose another --resize-px"
        )
    except ArtifactError as error:
        raise ModelError(str(error)) from None


def read_flat_index(path: Path, *, columns: int) -> NDArray[np.float32]:
    """The vectors of an IndexFlatL2, finite float32 (M, columns), as faiss's write_index wrote it.

    faiss trusts its files; here every number is compared with the file's real size.

    Raises:
        ModelError: the file is missing, cut, or another kind of index.
    """
    try:
        cursor = FileCursor(path)
        fourcc = cursor.array("fourcc", "S4", 1)[0]
        expect(fourcc == _FLAT, path, "index", "an IndexFlatL2 (IxF2)", f"{fourcc!r}")
        size = cursor.ranged("d", "<i4", 1, _MOST_CHANNELS)
        expect(size == columns, path, "d", f"{columns}, the target_embed_dimension", size)
        rows = cursor.ranged("ntotal", "<i8", 1, 2**31 - 1)
        cursor.array("unused", "<i8", 2)
        cursor.expect("is_trained", "u1", 1)
        cursor.expect("metric_type", "<i4", _METRIC_L2)
        cursor.expect("size of vectors", "<u8", rows * size)
        vectors = cursor.array("vectors", "<f4", rows * size).reshape(rows, size)
        cursor.end()
    except ArtifactError as error:
        raise ModelError(str(error)) from None
    return check_rows(str(path), np.array(vectors))
