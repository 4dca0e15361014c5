"""A model of anomalib 2 -> the detector that it describes.

Facts about anomalib (2.0 to 2.7): its network is timm's, with torchvision's architecture and names;
layers are averaged over 3x3 with zeros that count, and upsampled bilinearly to the first. The score
is eq. 7 over `num_neighbors` rows. Distances are upsampled to the input by repetition and smoothed
by a Gaussian of 4 px whose border is mirrored without the last pixel.
"""

from pathlib import Path
from typing import Any

from patchcore_build.errors import ModelError, require
from patchcore_build.imports.anomalib_file import AnomalibFile, read_anomalib, scalar
from patchcore_build.imports.original import (
    RESNETS,
    Original,
    Thresholds,
    check_input,
    check_layers,
    check_rows,
)
from patchcore_build.imports.thresholds import PostProcessor, carried
from patchcore_build.imports.transforms import plan_preprocessing
from patchcore_build.weights.read import digest, mindspore_names
from patchcore_build.weights.torch_pickle import Record, quote
from patchcore_runtime.manifest.manifest import Scoring

_NETWORK = "model.feature_extractor.feature_extractor."
_KERNEL = "model.anomaly_map_generator.blur.kernel"
_SIGMA_PX = 4.0
_KERNEL_SIDE = 2 * int(4 * _SIGMA_PX + 0.5) + 1
_VALUES = (
    "_image_threshold", "_pixel_threshold", "image_min", "image_max", "pixel_min", "pixel_max",
)  # fmt: skip
_NAMES = {
    "normalizes": ("enable_normalization", bool),
    "decides": ("enable_thresholding", bool),
    "matches": ("enable_threshold_matching", bool),
    "image_sensitivity": ("image_sensitivity", float),
    "pixel_sensitivity": ("pixel_sensitivity", float),
}


def open_anomalib(path: Path) -> Original:
    """Read a .ckpt or .pt of anomalib's PatchCore.

    Raises:
        ModelError: the file is missing, hostile, of another model, or describes something that an
            artifact does not compute.
    """
    source, file = str(path), read_anomalib(path)
    backbone = _backbone(source, file.settings.get("backbone"))
    layers = check_layers(source, file.settings.get("layers"))
    neighbours = file.settings.get("num_neighbors")
    counted = type(neighbours) is int and 1 <= neighbours < 2**31
    where = f"{source}: num_neighbors"
    require(counted, where, "1 or more", quote(neighbours), error=ModelError)
    if file.steps is None:
        raise ModelError(
            f"{source}: pre-processor: expected its transforms in the file, got none; export the "
            "model to .pt, or train it with a pre-processor that anomalib can store"
        )
    preprocess = plan_preprocessing(source, file.steps)
    check_input(source, preprocess, layers)
    _check_kernel(source, file)
    rows = check_rows(source, file.tensors["model.memory_bank"])
    network = {
        name.removeprefix(_NETWORK): array
        for name, array in file.tensors.items()
        if name.startswith(_NETWORK)
    }
    return Original(
        source=source,
        library="anomalib",
        backbone=backbone,
        layers=layers,
        neighbourhood=3,
        pool_to=0,
        weights=mindspore_names(network, source),
        rows=rows,
        neighbours=min(int(neighbours), len(rows)),  # type: ignore[arg-type]
        preprocess=preprocess,
        scoring=Scoring(
            image_score="paper",
            distance="euclidean",
            sigma_px=_SIGMA_PX,
            map_upsampling="nearest",
            map_border="mirrored",
        ),
        thresholds=_thresholds(source, file),
        notes=tuple(_notes(file)),
        provenance={"library": "anomalib", "file": path.name, "sha256": digest(path)},
    )


def _backbone(source: str, name: object) -> str:
    """Our name of one of timm's networks; the tag of its weights (`resnet18.tv_in1k`) is free."""
    plain = name.partition(".")[0] if isinstance(name, str) else ""
    shown = quote(name) if isinstance(name, str) else "no name"
    require(
        plain in RESNETS,
        f"{source}: backbone",
        f"one of {', '.join(RESNETS)}",
        shown,
        error=ModelError,
    )
    return plain


def _check_kernel(source: str, file: AnomalibFile) -> None:
    """Refuse another Gaussian than anomalib's own."""
    kernel = file.tensors.get(_KERNEL)
    if kernel is None:
        return
    side = kernel.shape[-1] if kernel.ndim else 0
    require(
        side == _KERNEL_SIDE,
        f"{source}: {_KERNEL}",
        f"{_KERNEL_SIDE} pixels, a Gaussian of {_SIGMA_PX:g} px",
        side,
        error=ModelError,
    )


def _thresholds(source: str, file: AnomalibFile) -> Thresholds | None:
    if file.post is None:
        return None
    settings: dict[str, Any] = {}
    for field, (name, kind) in _NAMES.items():
        value = file.post.get(name)
        if value is None:
            continue
        number = isinstance(value, int | float) and (kind is float or isinstance(value, bool))
        where = f"{source}: {name}"
        require(number, where, f"a {kind.__name__}", quote(value), error=ModelError)
        settings[field] = kind(value)
    try:
        values = {name: scalar(file.tensors, f"post_processor.{name}") for name in _VALUES}
    except ValueError as error:
        raise ModelError(f"{source}: expected one number each, but {error}") from None
    return carried(source, PostProcessor(values=values, **settings))


def _notes(file: AnomalibFile) -> list[str]:
    precision = file.settings.get("precision")
    if isinstance(precision, Record) and precision.arguments:
        precision = precision.arguments[0]
    stored = file.tensors["model.memory_bank"].dtype
    half = stored.itemsize == 2 or (isinstance(precision, str) and precision == "float16")
    words = (
        "the original computes in float16 and the artifact in float32; scores differ by the "
        "rounding of float16"
    )
    return [words] if half else []
