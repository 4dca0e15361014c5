"""manifest.json <-> frozen dataclasses, which contain every decision of the runtime.

text of manifest.json -> Manifest, or ArtifactError naming the field. artifacts/FORMAT.md defines
the fields and their meaning; `tests/contract/test_contract.py` compares it with these classes.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.files.strict_json import OPTIONAL, build, check, parse_json
from patchcore_runtime.manifest.calibration import Calibration
from patchcore_runtime.manifest.features import Features, Layout
from patchcore_runtime.manifest.monitoring import Monitoring
from patchcore_runtime.manifest.tiling import TileGrid, Tiling, tiles_along

FORMAT = "patchcore-artifact"
FORMAT_VERSION = 3

ResampleFilter = Literal["bilinear", "bicubic", "lanczos"]
Resize = Literal["stretch", "shorter_side"]
ImageScore = Literal["max", "map", "paper", "modelzoo"]
Distance = Literal["euclidean", "squared"]
MapUpsampling = Literal["bilinear", "nearest"]
MapBorder = Literal["repeated", "mirrored"]
IndexKind = Literal["exact", "hnsw", "faiss-flat", "faiss-ivfpq"]
BankPrecision = Literal["float32", "float16"]
RegionKind = Literal["whole", "mask"]
Thumbnails = Literal["none", "jpeg"]

MAX_SIDE_PX = 8192
WHITE_16_BITS = 2**16 - 1


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Image -> input: resize, then keep the central (height, width)."""

    resize: Resize
    resize_height: int
    resize_width: int
    filter: ResampleFilter
    height: int
    width: int
    # The value of white in grey of 16 bits.
    white_level: int = dataclasses.field(default=WHITE_16_BITS, metadata=OPTIONAL)

    def __post_init__(self) -> None:
        check(255 <= self.white_level <= WHITE_16_BITS, "white_level", "255 to 65535")
        check(32 <= self.height <= self.resize_height, "height", "32 to resize_height")
        check(32 <= self.width <= self.resize_width, "width", "32 to resize_width")
        check(self.resize_height <= MAX_SIDE_PX, "resize_height", f"up to {MAX_SIDE_PX}")
        check(self.resize_width <= MAX_SIDE_PX, "resize_width", f"up to {MAX_SIDE_PX}")
        if self.resize == "shorter_side":
            equal = self.resize_height == self.resize_width
            check(equal, "resize_width", "equal to resize_height for shorter_side")


@dataclass(frozen=True, kw_only=True)
class RegionOfInterest:
    """The part of the input that counts, and the size of the photographs that masks must match."""

    kind: RegionKind  # `mask`: roi.png marks the part
    photo_height: int
    photo_width: int

    def __post_init__(self) -> None:
        for field in ("photo_height", "photo_width"):
            check(8 <= getattr(self, field) <= 2**23, field, "8 to 2^23")


@dataclass(frozen=True, kw_only=True)
class Bank:
    """The shape of memory_bank.bin."""

    rows: int
    neighbours: int
    precision: BankPrecision

    def __post_init__(self) -> None:
        check(1 <= self.rows < 2**31, "rows", "1 to 2^31 - 1")
        check(1 <= self.neighbours <= self.rows, "neighbours", "1 to rows")


@dataclass(frozen=True, kw_only=True)
class Index:
    """The artifact's nearest-neighbour index, and its loss of accuracy.

    `recall` and `score_change` were measured against the exact search when the index was made.
    """

    kind: IndexKind
    effort: int  # candidates per patch (ef) of a graph, cells per patch (nprobe) of faiss-ivfpq
    recall: float
    score_change: float
    mindir_candidates: int  # rows that index.mindir returns per patch

    def __post_init__(self) -> None:
        exact = self.kind == "exact"
        all_rows = self.kind in ("exact", "faiss-flat")
        low, high, words = (
            (0, 0, "0 for exact, faiss-flat") if all_rows else (1, 2**16, "1 to 65536")
        )
        check(low <= self.effort <= high, "effort", words)
        check(
            self.recall == 1 if exact else 0 < self.recall <= 1, "recall", "in (0, 1]; 1 for exact"
        )
        near = self.score_change == 0 if exact else 0 <= self.score_change <= 1
        check(near, "score_change", "0 to 1; 0 for exact")
        check(0 <= self.mindir_candidates <= 1024, "mindir_candidates", "0 to 1024")


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Patch distances -> image score and anomaly map."""

    image_score: ImageScore
    distance: Distance  # the unit of score and map
    sigma_px: float
    map_upsampling: MapUpsampling
    map_border: MapBorder

    def __post_init__(self) -> None:
        check(0 < self.sigma_px <= 1024, "sigma_px", "in (0, 1024]")
        unit = {"paper": "euclidean", "modelzoo": "squared"}.get(self.image_score, self.distance)
        check(self.distance == unit, "distance", f"{unit} for {self.image_score}")

    def euclidean(self, value: float) -> float:
        """Convert a score or a map value, 0 or more, to a Euclidean distance."""
        return math.sqrt(value) if self.distance == "squared" else value


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """Expected results of the stored image: score, box of the defect, relative tolerances."""

    score: float
    layer_magnitudes: tuple[float, ...]  # mean and largest absolute value of each layer
    defect_box: tuple[int, int, int, int]  # top, left, bottom, right in input pixels
    score_tolerance: float
    map_tolerance: float

    def __post_init__(self) -> None:
        check(self.score >= 0, "score", "0 or more")
        check(min(self.layer_magnitudes, default=0) >= 0, "layer_magnitudes", "0 or more, each")
        # With a wide tolerance every machine would pass.
        check(0 < self.score_tolerance <= 0.1, "score_tolerance", "in (0, 0.1]")
        check(0 < self.map_tolerance <= 0.1, "map_tolerance", "in (0, 0.1]")


@dataclass(frozen=True, kw_only=True)
class Training:
    """The images that the bank was made of; bank rows refer to them by number."""

    category: str
    images: tuple[str, ...]
    skipped: tuple[str, ...]
    dropped: tuple[str, ...]
    digest: str
    thumbnails: Thumbnails  # how thumbnails.bin stores the images


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of manifest.json."""

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
    monitoring: Monitoring
    selftest: SelfTest
    training: Training
    config: dict[str, Any]
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        size, tiles, step = self.preprocess, self.tiling, self.features.step_px
        for side in ("height", "width"):
            length, tile = getattr(size, side), getattr(tiles, f"tile_{side}")
            check(length % step == 0, f"preprocess.{side}", f"a multiple of {step}")
            check(tile % step == 0, f"tiling.tile_{side}", f"a multiple of {step}")
            check(tile <= length, f"tiling.tile_{side}", f"up to preprocess.{side}")
        check(tiles.overlap % step == 0, "tiling.overlap", f"a multiple of {step}")
        for count, side in (("rows", "height"), ("columns", "width")):
            covering = tiles_along(
                getattr(size, side), getattr(tiles, f"tile_{side}"), tiles.overlap
            )
            check(
                getattr(tiles, count) == covering, f"tiling.{count}", "as many as cover the input"
            )
        layers = len(self.features.layers)
        magnitudes = len(self.selftest.layer_magnitudes) == 2 * layers
        check(magnitudes, "selftest.layer_magnitudes", "two numbers for each of features.layers")
        described = len(self.monitoring.layers) == layers
        check(described, "monitoring.layers", "as many as features.layers")
        compared = len(self.monitoring.quantiles.layers) == layers
        check(compared, "monitoring.quantiles.layers", "as many as features.layers")
        bare = self.features.mindir == "float32" or self.index.mindir_candidates == 0
        check(bare, "index.mindir_candidates", "0 where features.mindir is none")
        top, left, bottom, right = self.selftest.defect_box
        inside = 0 <= top <= bottom <= size.height and 0 <= left <= right <= size.width
        check(inside, "selftest.defect_box", "top, left, bottom, right inside the input")

    @property
    def grid(self) -> TileGrid:
        """Return the positions of an input's tiles."""
        size = self.preprocess
        return TileGrid(self.tiling, size.height, size.width, patch_px=self.features.patch_px)

    @cached_property
    def layout(self) -> Layout:
        """Return the shapes of the layers of one tile."""
        return self.features.layout(self.tiling.tile_height, self.tiling.tile_width)

    def to_json(self) -> str:
        """Return the text of manifest.json: fixed key order, no timestamps, one final newline."""
        document = dataclasses.asdict(self)
        if self.preprocess.white_level == WHITE_16_BITS:
            del document["preprocess"]["white_level"]
        if self.calibration.gate is None:
            del document["calibration"]["gate"]
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def parse_manifest(text: str, where: str) -> Manifest:
    """Parse manifest.json strictly: every field present, typed, in range, and none unknown.

    Raises:
        ArtifactError: the text is not a manifest of this version; the message names the field.
    """
    try:
        data = parse_json(text)
    except ValueError as error:
        raise ArtifactError(f"{where}: not JSON ({error}); copy the folder again") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ArtifactError(
            f'{where}: expected "format": "{FORMAT}"; this folder is not a PatchCore artifact'
        )
    version = data.get("format_version")
    if version == FORMAT_VERSION - 1 and not isinstance(version, bool):
        raise ArtifactError(
            f"{where}: format_version: expected {FORMAT_VERSION}, got {version}; "
            "convert the artifact with `patchcore-runtime upgrade ARTIFACT --output NEW`"
        )
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ArtifactError(
            f"{where}: format_version: expected {FORMAT_VERSION}, got {version!r:.40}; "
            "use the patchcore-runtime that is as new as the artifact, or build it again"
        )
    return build(Manifest, data, where)
