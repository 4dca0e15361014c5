"""All settings of a fit in one frozen object, and its named presets (recipes).

recipe name + overrides -> Config, validated at construction and stored whole in the manifest.
Source: PatchCore (Roth et al. 2021, arXiv:2106.08265) and the measurements in README.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from patchcore_build.errors import SettingError, require
from patchcore_build.feature_layers import (
    DEFAULT_LAYERS,
    LayerPlan,
    OwnNetwork,
    StrideIn,
    default_layers,
    plan_layers,
)
from patchcore_build.vision_transformers import VITS
from patchcore_runtime.manifest.features import (
    FeaturePrecision,
    Features,
    Layer,
    Layout,
    Upsampling,
)
from patchcore_runtime.manifest.manifest import (
    WHITE_16_BITS,
    BankPrecision,
    ImageScore,
    Preprocessing,
    ResampleFilter,
    Scoring,
)
from patchcore_runtime.manifest.tiling import TileGrid, Tiling, tiling_of

BACKBONES = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "wide_resnet50_2",
    "wide_resnet101_2",
    *VITS,
    "scattering",
)
BOTTLENECKS = ("resnet50", "resnet101", "wide_resnet50_2", "wide_resnet101_2")
WHITE_LEVELS = (1023, 4095, 16383, WHITE_16_BITS)  # of cameras with 10, 12, 14 and 16 bits
_OVERLAP_PX = 64  # of neighbouring tiles, by default

Frame = Literal["whole", "shorter_side_crop", "stretch_crop"]
PoolingBorder = Literal["counted", "not_counted"]
NEIGHBOURHOODS = (1, 3, 5)


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings that determine an artifact.

    `frame` says how an image becomes the input: `whole` keeps every pixel (one input size for the
    data set, with an area of about `resize_px` squared), `shorter_side_crop` and `stretch_crop`
    resize to `resize_px` and keep the central `crop_px` square. `sigma_px_at_224` is the width of
    the map's Gaussian for a side of 224 pixels, and scales with the side. `precision` belongs to
    the network in MindSpore, `feature_precision` to features.onnx, and `bank_precision` to the
    stored rows. `network` describes an ONNX file that takes the backbone's place; `backbone` is
    then its name. `stride_in` is the convolution of a bottleneck that has its stride. `layers` are
    stages of the network, the finest first, or blocks of a transformer, of which `mean_blocks`
    makes one layer, their mean. Each layer is averaged over `neighbourhood` cells squared
    (PatchCore, section 3.1), or brought to `pool_to` channels of all layers together by the
    original's adaptive pooling; 0 keeps the channels. An input is cut into tiles of `tile_px`,
    which is at most its longer side; 0 disables tiling. `white_level` is the value of white in grey
    images of 16 bits; `auto` takes the smallest of `WHITE_LEVELS` that the training images fit in.
    `augment` adds rotated views of each training image to those that the bank is chosen from.
    `foreground` masks the patches that the first principal component of the training images calls
    background. A value that would do nothing beside the others is refused.
    """

    recipe: str
    frame: Frame
    resize_px: int
    crop_px: int
    resample_filter: ResampleFilter
    upsampling: Upsampling
    pooling_border: PoolingBorder
    image_score: ImageScore
    backbone: str = "wide_resnet50_2"
    network: OwnNetwork | None = None
    layers: tuple[str, ...] = DEFAULT_LAYERS
    mean_blocks: bool = False
    stride_in: StrideIn = "3x3"
    neighbourhood: int = 3
    pool_to: int = 0
    neighbours: int = 9
    sigma_px_at_224: float = 4.0
    coreset_ratio: float = 0.01
    seed: int = 0
    folds: int = 5
    target_fpr: float = 0.01
    precision: Literal["fp32", "fp16"] = "fp32"
    feature_precision: FeaturePrecision = "float32"
    bank_precision: BankPrecision = "float32"
    tile_px: int = 0
    tile_overlap_px: int = _OVERLAP_PX
    white_level: int | Literal["auto"] = WHITE_16_BITS
    augment: Literal["none", "rotate"] = "none"
    foreground: Literal["none", "pca"] = "none"

    def __post_init__(self) -> None:
        self._check_kinds()
        self._check_layers()
        self._check_frame()
        self._check_tiles()
        self._check_foreground()
        require(0 < self.coreset_ratio <= 1, "coreset_ratio", "in (0, 1]", self.coreset_ratio)
        require(1 <= self.neighbours <= 100, "neighbours", "1 to 100", self.neighbours)
        require(
            0 < self.sigma_px_at_224 <= 64, "sigma_px_at_224", "in (0, 64]", self.sigma_px_at_224
        )
        require(0 <= self.seed < 2**32, "seed", "0 to 2^32 - 1", self.seed)
        require(2 <= self.folds <= 50, "folds", "2 to 50", self.folds)
        require(0 < self.target_fpr < 1, "target_fpr", "in (0, 1)", self.target_fpr)
        if self.white_level != "auto":
            fits = type(self.white_level) is int and 255 <= self.white_level <= WHITE_16_BITS
            require(fits, "white_level", "auto, or 255 to 65535", self.white_level)
        if self.feature_precision == "int8":
            require(self.precision == "fp32", "precision", "fp32 for int8", self.precision)
            # The features of an int8 scattering network are off by a third, and it is slower: see
            # the results of benchmarks/studies/quantization.py.
            resnet = self.backbone != "scattering" and self.backbone not in VITS
            require(resnet, "backbone", "a ResNet for --quantize int8", self.backbone)

    def _check_kinds(self) -> None:
        """Refuse a name that is no choice, and a number that is not of the field's type."""
        hints = get_type_hints(type(self))
        for field in fields(self):
            kind, value = hints[field.name], getattr(self, field.name)
            if get_origin(kind) is Literal:
                choices = get_args(kind)
                require(value in choices, field.name, f"one of {', '.join(choices)}", repr(value))
            elif kind is bool:
                require(isinstance(value, bool), field.name, "true or false", repr(value))
            elif kind is int:
                whole = isinstance(value, int) and not isinstance(value, bool)
                require(whole, field.name, "a whole number", repr(value))

    @property
    def plan(self) -> LayerPlan:
        """The layers' patch, strides and input sides."""
        if self.network is not None:
            return self.network.plan
        return plan_layers(self.layers, backbone=self.backbone, mean=self.mean_blocks)

    def _check_layers(self) -> None:
        count = len(self.plan.names)
        fixed = self.backbone == "scattering" or self.network is not None
        usual = not fixed or self.layers == DEFAULT_LAYERS
        require(usual, "layers", "none for scattering and --network", " ".join(self.layers))
        if self.network is not None:
            plain = (self.feature_precision, self.precision) == ("float32", "fp32")
            require(plain, "network", "no --quantize and --precision beside it", self.network.file)
        if self.stride_in != "3x3":
            bottleneck = self.network is None and self.backbone in BOTTLENECKS
            want = f"3x3, or a network with bottlenecks ({', '.join(BOTTLENECKS)})"
            require(bottleneck, "stride_in", want, f"{self.stride_in} for {self.backbone}")
        odd = self.neighbourhood in NEIGHBOURHOODS
        require(odd, "neighbourhood", "1, 3 or 5", self.neighbourhood)
        fits = self.pool_to % count == 0 and 0 <= self.pool_to <= 2**16
        require(
            fits, "pool_to", f"0, or a multiple of the {count} layers up to 65536", self.pool_to
        )
        if self.pool_to:
            counted = self.pooling_border == "counted"
            require(counted, "pooling_border", "counted beside pool_to", self.pooling_border)

    def _check_frame(self) -> None:
        require(64 <= self.resize_px <= 4096, "resize_px", "64 to 4096", self.resize_px)
        size = None if self.network is None else self.network.size
        if size is not None:
            whole = self.frame == "whole" or size == (self.crop_px, self.crop_px)
            got = f"a crop of {self.crop_px} px"
            require(whole, "network", f"an input of {size[0]} x {size[1]} px, as it has", got)
            require(not self.tile_px, "tile_px", "0 for a network of fixed size", self.tile_px)
        if self.frame != "whole":
            side = self.plan.side_px
            fits = self.crop_px % side == 0 and 0 < self.crop_px <= self.resize_px
            want = f"a multiple of {side} up to resize_px ({self.resize_px})"
            require(fits, "crop_px", want, self.crop_px)

    def _check_tiles(self) -> None:
        if self.tile_px:
            side = self.plan.side_px
            fits = self.tile_px % side == 0 and 64 <= self.tile_px <= 4096
            want = f"0, or a multiple of {side} from 64 to 4096"
            require(fits, "tile_px", want, self.tile_px)
            if self.frame != "whole":
                _require_tile_inside(self.tile_px, self.crop_px, self.crop_px)
        else:
            plain = self.tile_overlap_px == _OVERLAP_PX
            require(plain, "tile_overlap_px", "a tile size beside it", self.tile_overlap_px)
        overlap, most = self.tile_overlap_px, (self.tile_px or 4096) // 2
        step = self.plan.step_px if self.tile_px else 1
        fits = 0 <= overlap <= most and overlap % step == 0
        want = f"a multiple of {step} up to half of tile_px ({most})"
        require(fits, "tile_overlap_px", want, overlap)

    def _check_foreground(self) -> None:
        if self.foreground == "none":
            return
        trained = self.network is None and self.backbone != "scattering"
        want = "none for scattering, --network and --quantize"
        require(
            trained and self.feature_precision == "float32", "foreground", want, self.foreground
        )
        want = "none beside --tile, whose tiles have no middle"
        require(not self.tile_px, "foreground", want, self.foreground)
        want = "layers of one grid beside it: one layer of a ResNet, or blocks of a transformer"
        require(set(self.plan.strides) == {1}, "foreground", want, " ".join(self.layers))


RECIPES: Mapping[str, Config] = MappingProxyType(
    {
        "full-frame": Config(
            recipe="full-frame",
            frame="whole",
            resize_px=320,
            crop_px=0,
            resample_filter="bilinear",
            upsampling="bilinear",
            pooling_border="counted",
            image_score="max",
        ),
        "paper": Config(
            recipe="paper",
            frame="shorter_side_crop",
            resize_px=256,
            crop_px=224,
            resample_filter="bilinear",
            upsampling="bilinear",
            pooling_border="counted",
            image_score="paper",
        ),
        "dino": Config(
            recipe="dino",
            frame="whole",
            resize_px=448,
            crop_px=0,
            resample_filter="bicubic",
            upsampling="bilinear",
            pooling_border="counted",
            image_score="max",
            backbone="dinov2_vits14",
            layers=default_layers("dinov2_vits14"),
            neighbourhood=1,
        ),
        "modelzoo": Config(
            recipe="modelzoo",
            frame="stretch_crop",
            resize_px=256,
            crop_px=224,
            resample_filter="lanczos",
            upsampling="nearest",
            pooling_border="counted",
            image_score="modelzoo",
        ),
    }
)


def make_config(recipe: str, **overrides: Any) -> Config:
    """The named recipe with some fields replaced; `None` keeps the recipe's value.

    Raises:
        SettingError: unknown recipe, a value out of its range, or one that would do nothing; the
            message names the field.
    """
    require(recipe in RECIPES, "recipe", f"one of {tuple(RECIPES)}", recipe)
    backbone = overrides.get("backbone")
    if backbone is not None:  # not in Config: `fit` also takes other networks by other names
        require(backbone in BACKBONES, "backbone", f"one of {BACKBONES}", backbone)
    given = {name: value for name, value in overrides.items() if value is not None}
    network = given.get("network")
    chosen = RECIPES[recipe].backbone if backbone is None else backbone
    if network is None and (chosen in VITS) != (RECIPES[recipe].backbone in VITS):
        # A recipe's layers and neighbourhood belong to the other kind of network.
        given.setdefault("layers", default_layers(chosen))
        given.setdefault("neighbourhood", 1 if chosen in VITS else 3)
    if network is not None:
        require(backbone is None, "backbone", "none beside --network", backbone)
        given["backbone"] = Path(network.file).stem
        if network.size is not None and RECIPES[recipe].frame == "whole":
            fixed = "resize_px" not in given
            require(fixed, "resize_px", "none for a network of fixed size", given.get("resize_px"))
            given["resize_px"] = round(math.sqrt(math.prod(network.size)))
    if "tile_overlap_px" in given and not given.get("tile_px"):
        raise SettingError("--overlap: expected --tile N beside it, got no tile size")
    if given.get("tile_px") and "tile_overlap_px" not in given:
        layers, mean = given.get("layers", RECIPES[recipe].layers), given.get("mean_blocks", False)
        plan = network.plan if network else plan_layers(layers, backbone=chosen, mean=mean)
        step = plan.step_px
        given["tile_overlap_px"] = (
            min(-(-_OVERLAP_PX // step), given["tile_px"] // 2 // step) * step
        )
    return replace(RECIPES[recipe], **given)


def plan_preprocessing(
    config: Config, sizes: Sequence[tuple[int, int]], *, white_level: int = WHITE_16_BITS
) -> Preprocessing:
    """Compute the input geometry of an artifact.

    Args:
        config: The settings.
        sizes: (height, width) of the training images, after EXIF orientation.
        white_level: The value of white in grey images of 16 bits.

    Returns:
        The preprocessing of every image. For `whole`, H and W are the multiples of the layers'
        `side_px` nearest to the median aspect ratio at an area of about `resize_px` squared.
    """
    if config.frame == "whole":
        fixed = None if config.network is None else config.network.size
        height, width = fixed or _whole_frame(config.resize_px, sizes, config.plan.side_px)
        return Preprocessing(
            resize="stretch",
            resize_height=height,
            resize_width=width,
            filter=config.resample_filter,
            height=height,
            width=width,
            white_level=white_level,
        )
    return Preprocessing(
        resize="shorter_side" if config.frame == "shorter_side_crop" else "stretch",
        resize_height=config.resize_px,
        resize_width=config.resize_px,
        filter=config.resample_filter,
        height=config.crop_px,
        width=config.crop_px,
        white_level=white_level,
    )


def plan_tiling(config: Config, size: Preprocessing) -> Tiling:
    """The tiling of an input of that size; without tiling, one tile.

    Raises:
        SettingError: the tile is larger than the input.
    """
    height, width = size.height, size.width
    if config.tile_px:
        _require_tile_inside(config.tile_px, height, width)
    side = config.tile_px or max(height, width)
    return tiling_of(height, width, side, side, config.tile_overlap_px if config.tile_px else 0)


def _require_tile_inside(tile_px: int, height: int, width: int) -> None:
    require(
        tile_px <= max(height, width),
        "--tile",
        f"at most the longer side of the input, which is {height} x {width} px, or a larger "
        "--resize-px",
        tile_px,
    )


def plan_grid(config: Config, size: Preprocessing) -> TileGrid:
    """The positions of the tiles of an input of that size."""
    tiling = plan_tiling(config, size)
    return TileGrid(tiling, size.height, size.width, patch_px=config.plan.patch_px)


def describe_features(config: Config, channels: Sequence[int]) -> Features:
    """The manifest's `features`, for layers of these channels."""
    plan = config.plan
    layers = zip(plan.names, channels, plan.strides, strict=True)
    return Features(
        backbone=config.backbone,
        precision=config.feature_precision,
        mindir="none" if config.network or config.feature_precision == "int8" else "float32",
        patch_px=plan.patch_px,
        layers=tuple(Layer(name=name, channels=of, stride=stride) for name, of, stride in layers),
        upsampling=config.upsampling,
    )


def plan_layout(config: Config, size: Preprocessing, channels: Sequence[int]) -> Layout:
    """The shapes of the layers of one tile of an input of that size."""
    tiling = plan_tiling(config, size)
    return describe_features(config, channels).layout(tiling.tile_height, tiling.tile_width)


def scoring_rule(config: Config, size: Preprocessing) -> Scoring:
    """The rule for image score and map; the width of the Gaussian scales with the input's side."""
    side = math.sqrt(size.height * size.width)
    return Scoring(
        image_score=config.image_score,
        # The MindSpore Models evaluation uses faiss's squared distances without the root.
        distance="squared" if config.image_score == "modelzoo" else "euclidean",
        sigma_px=config.sigma_px_at_224 * side / 224,
        map_upsampling="bilinear",
        map_border="repeated",
    )


def _whole_frame(side_px: int, sizes: Sequence[tuple[int, int]], multiple: int) -> tuple[int, int]:
    ratios = sorted(math.log(width / height) for height, width in sizes)
    aspect = math.exp(ratios[len(ratios) // 2])  # width / height
    height = side_px / math.sqrt(aspect)
    return _nearest_multiple(height, multiple), _nearest_multiple(height * aspect, multiple)


def _nearest_multiple(length_px: float, multiple: int) -> int:
    return max(-(-64 // multiple), round(length_px / multiple)) * multiple
