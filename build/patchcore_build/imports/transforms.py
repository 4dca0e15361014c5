"""The transforms of a torchvision pipeline, in order -> the artifact's preprocessing.

[(name, settings), ...] -> Preprocessing, or ModelError. Only what the artifact computes alike is
accepted: one antialiased resize, one central crop, ImageNet's normalisation.
"""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from patchcore_build.errors import ModelError, require
from patchcore_build.weights.torch_pickle import quote
from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.files.strict_json import build
from patchcore_runtime.manifest.manifest import Preprocessing, ResampleFilter

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, RGB
_ORDERS = (["Resize", "Normalize"], ["Resize", "CenterCrop", "Normalize"])

Step = tuple[str, Mapping[str, Any]]


def plan_preprocessing(source: str, steps: Sequence[Step]) -> Preprocessing:
    """Compute the preprocessing of a pipeline.

    Raises:
        ModelError: a step is of another kind or order, or computes something else; the message
            names the file and the step.
    """
    names = [name for name, _ in steps]
    expected = "Resize, then CenterCrop or nothing, then Normalize"
    got = ", ".join(ascii(name)[1:-1][:40] for name in names[:8]) or "none"
    require(names in _ORDERS, f"{source}: transforms", expected, got, error=ModelError)
    settings = dict(steps)
    _check_normalisation(source, settings["Normalize"])
    resize, fitted = settings["Resize"], _sides(source, "Resize", settings["Resize"].get("size"))
    where = f"{source}: Resize"
    smooth = resize.get("antialias") is True
    require(smooth, where, "antialias on", "it off: its result depends on it", error=ModelError)
    unlimited = resize.get("max_size") is None
    require(unlimited, where, "no max_size", "one", error=ModelError)
    sampled = resize.get("interpolation", "bilinear")
    filters = get_args(ResampleFilter)
    known = isinstance(sampled, str) and sampled in filters
    words = f"interpolation {', '.join(filters)}"
    require(known, where, words, quote(sampled), error=ModelError)
    size = fitted
    if "CenterCrop" in settings:
        size = _sides(source, "CenterCrop", settings["CenterCrop"].get("size"))
    if len(size) == 1 and "CenterCrop" not in settings:
        raise ModelError(
            f"{where}: expected two sides, or a CenterCrop after it, got one side: the input's "
            "size would depend on the photograph"
        )
    return _preprocessing(source, fitted, _pair(size), sampled)


def _preprocessing(
    source: str, fitted: tuple[int, ...], size: tuple[int, int], sampled: str
) -> Preprocessing:
    stretched = len(fitted) == 2
    resized = _pair(fitted)
    for whole, side in zip(resized, size, strict=True):
        # torchvision rounds the corner to the nearest number, halves to even; the artifact down.
        same = not stretched or round((whole - side) / 2) == (whole - side) // 2
        require(
            same,
            f"{source}: CenterCrop",
            "a margin that both programs halve alike",
            f"{side} of {whole}, whose corner would be one pixel off",
            error=ModelError,
        )
    document = {
        "resize": "stretch" if stretched else "shorter_side",
        "resize_height": resized[0],
        "resize_width": resized[1],
        "filter": sampled,
        "height": size[0],
        "width": size[1],
    }
    try:
        return build(Preprocessing, document, f"{source}: input", advice="it cannot be imported")
    except ArtifactError as error:
        raise ModelError(str(error)) from None


def _check_normalisation(source: str, settings: Mapping[str, Any]) -> None:
    for name, wanted in (("mean", MEAN), ("std", STD)):
        given = settings.get(name)
        same = (
            isinstance(given, list | tuple)
            and len(given) == 3
            and all(isinstance(value, float) for value in given)
            and all(abs(a - b) < 1e-6 for a, b in zip(given, wanted, strict=True))
        )
        require(
            same,
            f"{source}: Normalize: {name}",
            f"ImageNet's {wanted}",
            "another",
            error=ModelError,
        )


def _sides(source: str, step: str, size: object) -> tuple[int, ...]:
    """(height, width), or one side of a resize that keeps the aspect ratio."""
    sides = (size,) if isinstance(size, int) else size
    fits = (
        isinstance(sides, list | tuple)
        and len(sides) in (1, 2)
        and all(type(side) is int and 0 < side < 2**20 for side in sides)
    )
    require(fits, f"{source}: {step}: size", "one or two sides", quote(size), error=ModelError)
    return tuple(sides)  # type: ignore[arg-type]


def _pair(sides: tuple[int, ...]) -> tuple[int, int]:
    return sides[0], sides[-1]
