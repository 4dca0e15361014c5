"""manifest.json <-> frozen dataclasses; every decision the runtime takes stands here.

bytes of manifest.json -> Manifest, or ArtifactError naming the field. The fields and their meaning
are defined in artifacts/FORMAT.md; `tests/test_contract.py` holds both to each other.
"""

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.tiling import STEP_PX, Tiling, tiles_along

FORMAT = "patchcore-artifact"
FORMAT_VERSION = 2

ResampleFilter = Literal["bilinear", "bicubic", "lanczos"]
Resize = Literal["stretch", "shorter_side"]
Upsampling = Literal["bilinear", "nearest"]
ImageScore = Literal["max", "paper", "modelzoo"]
IndexKind = Literal["exact", "hnsw"]
FeaturePrecision = Literal["float32", "int8"]
BankPrecision = Literal["float32", "float16"]
RegionKind = Literal["whole", "mask"]

MAX_SIDE_PX = 8192


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Picture -> input: resize, then keep the central (height, width)."""

    resize: Resize
    resize_height: int
    resize_width: int
    filter: ResampleFilter
    height: int
    width: int

    def __post_init__(self) -> None:
        _check(32 <= self.height <= self.resize_height, "height", "32 to resize_height")
        _check(32 <= self.width <= self.resize_width, "width", "32 to resize_width")
        _check(self.resize_height <= MAX_SIDE_PX, "resize_height", f"up to {MAX_SIDE_PX}")
        _check(self.resize_width <= MAX_SIDE_PX, "resize_width", f"up to {MAX_SIDE_PX}")
        if self.resize == "shorter_side":
            equal = self.resize_height == self.resize_width
            _check(equal, "resize_width", "equal to resize_height for shorter_side")


@dataclass(frozen=True, kw_only=True)
class RegionOfInterest:
    """What of the input counts, and the size of the photographs, on which masks are drawn."""

    kind: RegionKind  # `mask`: roi.png says
    photo_height: int
    photo_width: int

    def __post_init__(self) -> None:
        for field in ("photo_height", "photo_width"):
            _check(8 <= getattr(self, field) <= 2**23, field, "8 to 2^23")


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """One output of features.onnx: (B, channels, height, width)."""

    channels: int
    height: int
    width: int

    def __post_init__(self) -> None:
        for field in ("channels", "height", "width"):
            _check(1 <= getattr(self, field) <= 2**16, field, "1 to 65536")


@dataclass(frozen=True, kw_only=True)
class Features:
    """The feature network, its layers of one tile, and how they make one patch vector."""

    backbone: str
    precision: FeaturePrecision
    layer2: LayerShape
    layer3: LayerShape
    layer3_upsampling: Upsampling


@dataclass(frozen=True, kw_only=True)
class Bank:
    """Shape of memory_bank.bin."""

    rows: int
    neighbours: int
    precision: BankPrecision

    def __post_init__(self) -> None:
        _check(1 <= self.rows < 2**31, "rows", "1 to 2^31 - 1")
        _check(1 <= self.neighbours <= self.rows, "neighbours", "1 to rows")


@dataclass(frozen=True, kw_only=True)
class Index:
    """Which nearest-neighbour index serves the artifact, and what it costs in accuracy.

    `recall` and `score_change` were measured against the exact search when the index was made.
    """

    kind: IndexKind
    effort: int  # candidates looked at per patch; hnsw's ef
    recall: float
    score_change: float
    mindir_candidates: int  # rows that index.mindir gives per patch

    def __post_init__(self) -> None:
        exact = self.kind == "exact"
        low, high, words = (0, 0, "0 for exact") if exact else (1, 2**16, "1 to 65536")
        _check(low <= self.effort <= high, "effort", words)
        _check(
            self.recall == 1 if exact else 0 < self.recall <= 1, "recall", "in (0, 1]; 1 for exact"
        )
        near = self.score_change == 0 if exact else 0 <= self.score_change <= 1
        _check(near, "score_change", "0 to 1; 0 for exact")
        _check(0 <= self.mindir_candidates <= 1024, "mindir_candidates", "0 to 1024")


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Patch distances -> image score and anomaly map."""

    image_score: ImageScore
    sigma_px: float

    def __post_init__(self) -> None:
        _check(0 < self.sigma_px <= 1024, "sigma_px", "in (0, 1024]")


@dataclass(frozen=True, kw_only=True)
class HeatmapRange:
    """The artifact's one scale for heat maps, in map units."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Thresholds from held-out training images, and what they rest on."""

    method: str
    images: int
    folds: int
    target_fpr: float
    image_threshold: float
    pixel_threshold: float
    heatmap: HeatmapRange
    quantile_levels: tuple[float, ...]
    image_score_quantiles: tuple[float, ...]
    map_maximum_quantiles: tuple[float, ...]

    def __post_init__(self) -> None:
        _check(1 <= self.images < 2**31, "images", "1 to 2^31 - 1")
        _check(1 <= self.folds <= self.images, "folds", "1 to images")
        _check(0 < self.target_fpr < 1, "target_fpr", "in (0, 1)")
        _check(self.image_threshold >= 0, "image_threshold", "0 or more")
        inside = self.heatmap.low < self.pixel_threshold < self.heatmap.high
        _check(inside, "pixel_threshold", "between heatmap.low and heatmap.high")
        counts = {
            len(self.quantile_levels),
            len(self.image_score_quantiles),
            len(self.map_maximum_quantiles),
        }
        _check(len(counts) == 1, "quantile_levels", "as many entries as both quantile lists")


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """What the stored picture must give: score, place of the defect, tolerances (relative)."""

    score: float
    defect_box: tuple[int, int, int, int]  # top, left, bottom, right in input pixels
    score_tolerance: float
    map_tolerance: float

    def __post_init__(self) -> None:
        _check(self.score >= 0, "score", "0 or more")
        # A wide tolerance would pass any machine.
        _check(0 < self.score_tolerance <= 0.1, "score_tolerance", "in (0, 0.1]")
        _check(0 < self.map_tolerance <= 0.1, "map_tolerance", "in (0, 0.1]")


@dataclass(frozen=True, kw_only=True)
class Training:
    """The pictures the bank was made of; a bank row names one by its number."""

    category: str
    images: tuple[str, ...]
    skipped: tuple[str, ...]
    digest: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The whole of manifest.json."""

    format: str
    format_version: int
    preprocess: Preprocessing
    region: RegionOfInterest
    tiling: Tiling
    features: Features
    memory_bank: Bank
    index: Index
    scoring: Scoring
    calibration: Calibration
    selftest: SelfTest
    training: Training
    config: dict[str, Any]
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        size, tiles = self.preprocess, self.tiling
        for side in ("height", "width"):
            length, tile = getattr(size, side), getattr(tiles, f"tile_{side}")
            _check(length % STEP_PX == 0, f"preprocess.{side}", "a multiple of 16")
            _check(tile <= length, f"tiling.tile_{side}", f"up to preprocess.{side}")
        for count, side in (("rows", "height"), ("columns", "width")):
            covering = tiles_along(
                getattr(size, side), getattr(tiles, f"tile_{side}"), tiles.overlap
            )
            _check(
                getattr(tiles, count) == covering, f"tiling.{count}", "as many as cover the input"
            )
        layer2, layer3 = self.features.layer2, self.features.layer3
        _check(
            (layer2.height * 8, layer2.width * 8) == (tiles.tile_height, tiles.tile_width),
            "features.layer2",
            "an eighth of tiling.tile_height and tile_width",
        )
        _check(
            (layer3.height * 2, layer3.width * 2) == (layer2.height, layer2.width),
            "features.layer3",
            "half of features.layer2's height and width",
        )
        bare = self.features.precision == "float32" or self.index.mindir_candidates == 0
        _check(bare, "index.mindir_candidates", "0 where features.precision is int8")
        top, left, bottom, right = self.selftest.defect_box
        inside = 0 <= top <= bottom <= size.height and 0 <= left <= right <= size.width
        _check(inside, "selftest.defect_box", "top, left, bottom, right inside the input")

    def to_json(self) -> str:
        """The text of manifest.json: stable key order, no timestamps, one final newline."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"


def parse_manifest(text: str, where: str) -> Manifest:
    """Read manifest.json strictly: every field present, typed, in range, and none unknown.

    Raises:
        ArtifactError: the text is no manifest of this version; says which field and why.
    """
    try:
        data = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_parse_float,
            object_pairs_hook=_without_repeats,
        )
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{where}: not JSON ({error}); copy the folder again") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ArtifactError(
            f'{where}: expected "format": "{FORMAT}"; this folder is not a PatchCore artifact'
        )
    version = data.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ArtifactError(
            f"{where}: format_version: expected {FORMAT_VERSION}, got {version!r:.40}; "
            "use the patchcore-runtime that is as new as the artifact, or build it again"
        )
    return _build(Manifest, data, where, "")


_T = TypeVar("_T")


def _build(cls: type[_T], data: object, where: str, path: str) -> _T:
    """One dataclass from one JSON object, checked field by field."""
    if not isinstance(data, dict):
        raise ArtifactError(f"{where}: {path or 'top'}: expected an object, got {_name(data)}")
    hints = typing.get_type_hints(cls)
    dotted = f"{path}." if path else ""
    for name in data:
        if name not in hints:
            raise ArtifactError(f"{where}: {dotted}{name}: unknown field; copy the folder again")
    values = {}
    for name, hint in hints.items():
        if name not in data:
            raise ArtifactError(f"{where}: {dotted}{name}: missing; copy the folder again")
        values[name] = _convert(hint, data[name], where, dotted + name)
    try:
        return cls(**values)
    except ValueError as error:
        raise ArtifactError(f"{where}: {dotted}{error}") from None


def _convert(hint: Any, value: object, where: str, path: str) -> Any:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where, path)  # type: ignore[arg-type]
    if origin is Literal:
        _expect(
            value in typing.get_args(hint), where, path, f"one of {typing.get_args(hint)}", value
        )
        return value
    if origin is tuple:
        return _convert_tuple(hint, value, where, path)
    if origin is dict:
        _expect(isinstance(value, dict), where, path, "an object", value)
        return value
    if hint is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        _expect(is_number, where, path, "a number", value)
        number = _finite(value)  # type: ignore[arg-type]
        _expect(math.isfinite(number), where, path, "a finite number", value)
        return number
    same = isinstance(value, hint) and not (hint is int and isinstance(value, bool))
    _expect(same, where, path, f"{hint.__name__}", value)
    return value


def _convert_tuple(hint: Any, value: object, where: str, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ArtifactError(f"{where}: {path}: expected a list, got {_name(value)}")
    kinds = typing.get_args(hint)
    if kinds[-1] is not Ellipsis:
        _expect(len(value) == len(kinds), where, path, f"{len(kinds)} entries", len(value))
    return tuple(_convert(kinds[0], item, where, f"{path}[{i}]") for i, item in enumerate(value))


def _finite(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _expect(holds: bool, where: str, path: str, expected: str, got: object) -> None:
    if not holds:
        shown = json.dumps(got) if isinstance(got, int | float | str) else _name(got)
        raise ArtifactError(
            f"{where}: {path}: expected {expected}, got {shown[:80]}; copy the folder again"
        )


def _check(holds: bool, field: str, expected: str) -> None:
    if not holds:
        raise ValueError(f"{field}: expected {expected}")


def _name(value: object) -> str:
    return "null" if isinstance(value, types.NoneType) else type(value).__name__


def _refuse_constant(token: str) -> object:
    raise ValueError(f"{token} is not a JSON number")


def _parse_float(token: str) -> float:
    value = float(token)
    if not math.isfinite(value):
        raise ValueError(f"{token} is larger than float64 can be")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a repeated name JSON readers take the first or the last: two programs would disagree."""
    whole = dict(pairs)
    if len(whole) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{repeated} is given twice")
    return whole
