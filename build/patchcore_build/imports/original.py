"""A PatchCore detector of another library, as its files describe it.

The readers of `anomalib` and `amazon` return it, and `artifact` writes it as an artifact.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_build.config import BACKBONES
from patchcore_build.errors import ModelError, SettingError, require
from patchcore_build.feature_layers import STAGES, plan_stages
from patchcore_build.weights.read import Weights
from patchcore_runtime.manifest.features import MOST_LAYERS
from patchcore_runtime.manifest.manifest import Preprocessing, Scoring

RESNETS = tuple(name for name in BACKBONES if "resnet" in name)


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Verdicts of the original in units of its scores, and the ends of its heat maps."""

    image: float
    pixel: float
    low: float  # map value of the darkest colour
    high: float
    method: str  # where they come from, for people


@dataclass(frozen=True, kw_only=True, eq=False)
class Original:
    """A detector of another library.

    Attributes:
        source: Name of its file or folder, for messages.
        library: Name of the library, for people.
        backbone: Name of the ResNet.
        layers: Stages whose channels form a row, the finest first.
        neighbourhood: Cells along one side of the square that each cell is averaged over.
        pool_to: Channels of a row after the adaptive pooling of the original implementation; 0: the
            layers' own.
        weights: The network's parameters by MindSpore's names, with the file they come from.
        rows: The memory bank, finite float32 (M, D), in the order of the file.
        neighbours: K of eq. 7; 1 for other scores.
        preprocess: Photograph to input.
        scoring: Distances to score and map.
        thresholds: None if the original has none.
        notes: What a person should know about differences, one line each.
        provenance: Facts about the files, for the manifest.
    """

    source: str
    library: str
    backbone: str
    layers: tuple[str, ...]
    neighbourhood: int
    pool_to: int
    weights: Weights
    rows: NDArray[np.float32]
    neighbours: int
    preprocess: Preprocessing
    scoring: Scoring
    thresholds: Thresholds | None
    notes: tuple[str, ...]
    provenance: dict[str, Any]


def check_layers(source: str, layers: object) -> tuple[str, ...]:
    """The names of a network's layers; refuse what is no list of a ResNet's stages.

    Raises:
        ModelError: the message names the file.
    """
    expected = f"one to four of {', '.join(STAGES)}, the finest first"
    names: tuple[str, ...] = ()
    listed = isinstance(layers, list | tuple) and len(layers) <= MOST_LAYERS
    if listed and all(isinstance(name, str) for name in layers):  # type: ignore[attr-defined]
        names = tuple(layers)  # type: ignore[arg-type]
    shown = " ".join(names) or type(layers).__name__
    try:
        plan_stages(names)
    except SettingError:
        shown = shown if shown.isprintable() else ascii(shown)
        raise ModelError(
            f"{source}: layers: expected {expected}, got {shown:.100}; only these can be imported"
        ) from None
    return names


def check_rows(source: str, rows: NDArray[Any]) -> NDArray[np.float32]:
    """The memory bank as float32 (M, D); refuse one that is empty or not finite.

    Raises:
        ModelError: the message names the file.
    """
    shaped = rows.ndim == 2 and min(rows.shape, default=0) > 0 and rows.dtype.kind == "f"
    where = f"{source}: memory bank"
    got = f"{rows.dtype} {rows.shape}"
    require(shaped, where, "floating numbers (M, D)", got, error=ModelError)
    found = np.ascontiguousarray(rows, np.float32)
    require(
        bool(np.isfinite(found).all()), where, "finite numbers", "NaN or infinity", error=ModelError
    )
    return found


def check_input(source: str, size: Preprocessing, layers: tuple[str, ...]) -> None:
    """Refuse an input that the layers' grids do not divide.

    Raises:
        ModelError: the message names the side.
    """
    step = plan_stages(layers).step_px
    for name, side in (("height", size.height), ("width", size.width)):
        require(
            side % step == 0,
            f"{source}: input {name}",
            f"a multiple of {step} for {' '.join(layers)}",
            side,
            error=ModelError,
        )
