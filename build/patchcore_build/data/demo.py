"""Draw a product that does not exist: a brushed plate, good and damaged, in MVTec AD's layout.

seed -> folder/category/{train/good, test/good, test/<defect>, ground_truth/<defect>}/*.png.
Whoever has no photographs can build, score and report with these. Shapes are signed distances to an
edge, so every edge is anti-aliased; a damaged plate equals its good twin outside the mask.
"""

import functools
import math
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from patchcore_build.errors import DatasetError

Array = NDArray[np.float32]

# Plate coordinates: the unit is the side of the image, the origin the middle of the plate.
_PLATE = (0.42, 0.34, 0.055)  # half width, half height, corner radius
_SCREW_HOLES = ((-0.355, -0.275), (0.355, -0.275), (-0.355, 0.275), (0.355, 0.275))
_SCREW_RADIUS, _BORE, _BORE_RADIUS = 0.028, (0.17, 0.0), 0.1
_SLOT = ((-0.28, 0.2), (-0.06, 0.2), 0.021)  # from, to, radius
_BEVEL = 0.014
_METAL = (0.66, 0.665, 0.675)
_MAT = (0.105, 0.11, 0.12)
_LIGHT = (-0.45, -0.6, 0.66)  # from the upper left, towards the camera


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """One image before any damage: where the plate lies, its texture, and the light on it."""

    size_px: int
    angle: float  # radians
    shift: tuple[float, float]  # of the plate's middle, in sides
    x: Array  # (H, W) plate coordinates of every pixel
    y: Array
    brush: Array  # (H, W) brushing, mean 0, standard deviation 1
    grain: Array  # (H, W) of the mat below
    light: Array  # (H, W, 3) gain of lamp, gradient and colour
    noise: Array  # (H, W, 3) of the sensor, in levels of 255

    def to_image(self, x: float, y: float) -> tuple[float, float]:
        """Plate coordinates -> pixels."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        right, down = cos * x - sin * y + self.shift[0], sin * x + cos * y + self.shift[1]
        return (right + 0.5) * self.size_px, (down + 0.5) * self.size_px


@dataclass(frozen=True, kw_only=True)
class _Damage:
    """What a defect changes, and the exact region (H, W) outside of which nothing does."""

    region: NDArray[np.bool_]
    relief: Array | float = 0.0  # (H, W) height in sides
    tint: Array | float = 1.0  # (H, W, 3) factor on the colour
    closed_hole: int | None = None


def render_plate(
    key: tuple[int, ...], *, size_px: int = 256, defect: str | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw one plate; the same `key` with and without a defect gives twins.

    Args:
        key: Seed of pose, light, texture, noise and damage; non-negative integers.
        size_px: Side of the square image, at least 64.
        defect: One of `DEFECTS`, or None for a good plate.

    Returns:
        RGB image, uint8 (H, W, 3), and the defect's region, bool (H, W). Outside the
        region the image equals its good twin.

    Raises:
        ValueError: `size_px` or `defect` is out of range.
    """
    if size_px < 64:
        raise ValueError(f"demo: expected size_px >= 64, got {size_px}; ask for a larger image")
    if defect is not None and defect not in DEFECTS:
        raise ValueError(f"demo: expected a defect of {', '.join(DEFECTS)}, got {defect!r}")
    scene = _draw_scene(np.random.default_rng([*key, 0]), size_px)
    image = _render(scene, None)
    region = np.zeros((size_px, size_px), dtype=np.bool_)
    if defect is not None:
        damage = _DAMAGES[defect](scene, np.random.default_rng([*key, 1]))
        region = damage.region
        image = np.where(region[..., None], _render(scene, damage), image)
    return image, region


def write_demo_dataset(  # noqa: PLR0913 - six numbers and names beside the folder, all optional
    folder: Path,
    *,
    seed: int = 0,
    train: int = 60,
    test_good: int = 20,
    per_defect: int = 8,
    size_px: int = 256,
    category: str = "brushed_plate",
) -> Path:
    """Write a complete data set in the layout of MVTec AD.

    It appears whole or not at all. The same arguments give the same bytes (with the same
    NumPy and Pillow), and larger counts only add images. The default takes seconds.

    Args:
        folder: Where the category's folder is made; created when missing.
        seed: Seed of everything random, >= 0.
        train: Good images to learn from, >= 1.
        test_good: Good images to test with, >= 0.
        per_defect: Damaged images of each kind in `DEFECTS`, >= 0.
        size_px: Side of the square images, at least 64.
        category: Name of the folder to make.

    Returns:
        The category's folder.

    Raises:
        DatasetError: The category's folder exists already, or its name is no folder name.
        ValueError: A number is out of range.
    """
    if min(seed, train - 1, test_good, per_defect) < 0:
        raise ValueError(
            "demo: expected seed >= 0, train >= 1, test_good >= 0 and per_defect >= 0, got "
            f"{seed}, {train}, {test_good} and {per_defect}; ask for at least these"
        )
    target = folder / category
    if category in {"", ".", ".."} or Path(category).name != category:
        raise DatasetError(f"{category!r}: expected a plain folder name; leave out the path")
    if target.exists():
        raise DatasetError(
            f"{target}: expected no such folder, but it exists; "
            "remove it or choose another folder or category"
        )
    unfinished = folder / f".{category}.{uuid.uuid4().hex}.part"
    try:
        for split, index, key in _plan(seed, train, test_good, per_defect):
            defect = split.name if split.name in DEFECTS else None
            image, region = render_plate(key, size_px=size_px, defect=defect)
            _save_png(unfinished / split / f"{index:03d}.png", image)
            if defect:
                mask = region.astype(np.uint8) * 255
                _save_png(unfinished / "ground_truth" / defect / f"{index:03d}_mask.png", mask)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _plan(
    seed: int, train: int, test_good: int, per_defect: int
) -> Iterator[tuple[Path, int, tuple[int, ...]]]:
    """Every image's folder, number and key."""
    groups = [(Path("train/good"), train), (Path("test/good"), test_good)]
    groups += [(Path("test") / name, per_defect) for name in DEFECTS]
    for group, (split, count) in enumerate(groups):
        for index in range(count):
            yield split, index, (seed, group, index)


def _save_png(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, format="PNG")


def _draw_scene(rng: np.random.Generator, size_px: int) -> _Scene:
    """Draw pose, light, texture and noise of one image."""
    angle = math.radians(rng.uniform(-1.5, 1.5))
    shift = (rng.uniform(-0.012, 0.012), rng.uniform(-0.012, 0.012))
    across = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px - 0.5
    right, down = np.meshgrid(across - shift[0], across - shift[1])
    cos, sin = math.cos(angle), math.sin(angle)
    gain, tilt = rng.uniform(0.93, 1.07), rng.uniform(-0.12, 0.12, 2)
    warmth = rng.uniform(-0.015, 0.015)
    # Brushed metal spreads a lamp's reflection across the brushing: one soft upright band.
    band = 0.1 * np.exp(-(((right - rng.uniform(-0.15, 0.05)) / 0.22) ** 2))
    light = gain * (1 + tilt[0] * right + tilt[1] * down + band - 0.25 * (right**2 + down**2))
    color = np.array([1 + warmth, 1.0, 1 - warmth], dtype=np.float32)
    return _Scene(
        size_px=size_px,
        angle=angle,
        shift=shift,
        x=(cos * right + sin * down).astype(np.float32),
        y=(cos * down - sin * right).astype(np.float32),
        brush=_brushing(rng, size_px, angle),
        grain=_normal(rng, size_px, size_px),
        light=(light[..., None] * color).astype(np.float32),
        noise=_normal(rng, size_px, size_px, 3) * np.float32(1.6),
    )


def _normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, dtype=np.float32)


def _brushing(rng: np.random.Generator, size_px: int, angle: float) -> Array:
    """Streaks of several lengths along the plate, turned with it; mean 0, deviation 1."""
    side = size_px * 5 // 4
    streaks = np.zeros((side, side), dtype=np.float32)
    for length, strength in ((0.03, 0.5), (0.15, 1.0), (0.6, 0.8)):
        window = max(2, round(length * side))
        sums = np.cumsum(_normal(rng, side, side + window), axis=1, dtype=np.float64)
        streaks += strength * (sums[:, window:] - sums[:, :-window]) / math.sqrt(window)
    turned = Image.fromarray(streaks).rotate(-math.degrees(angle), Image.Resampling.BICUBIC)
    edge = (side - size_px) // 2
    inner = np.asarray(turned, dtype=np.float32)[edge : edge + size_px, edge : edge + size_px]
    return np.asarray((inner - inner.mean()) / inner.std(), np.float32)


def _outline(scene: _Scene) -> Array:
    """Signed distance (H, W) to the plate's outer edge, in sides; negative on the plate."""
    width, height, radius = _PLATE
    over_x, over_y = np.abs(scene.x) - (width - radius), np.abs(scene.y) - (height - radius)
    outside = np.hypot(np.maximum(over_x, 0), np.maximum(over_y, 0))
    return np.asarray(outside + np.minimum(np.maximum(over_x, over_y), 0) - radius, np.float32)


def _openings(scene: _Scene, closed_hole: int | None) -> Array:
    """Signed distance (H, W) to the nearest hole's edge, in sides; negative inside a hole."""
    distance = np.hypot(scene.x - _BORE[0], scene.y - _BORE[1]) - _BORE_RADIUS
    (left, level), (end, _), radius = _SLOT
    along = np.clip(scene.x, left, end)
    distance = np.minimum(distance, np.hypot(scene.x - along, scene.y - level) - radius)
    for number, (x, y) in enumerate(_SCREW_HOLES):
        if number != closed_hole:
            hole = np.hypot(scene.x - x, scene.y - y) - _SCREW_RADIUS
            distance = np.minimum(distance, hole)
    return np.asarray(distance, np.float32)


def _render(scene: _Scene, damage: _Damage | None) -> NDArray[np.uint8]:
    """Put mat, plate, print, damage, light and noise together."""
    damage = damage or _Damage(region=np.zeros(scene.x.shape, dtype=np.bool_))
    outline, openings = _outline(scene), _openings(scene, damage.closed_hole)
    metal = np.clip(0.5 - np.maximum(outline, -openings) * scene.size_px, 0, 1)[..., None]
    inside = np.minimum(-outline, openings)  # distance to the nearest edge
    height = np.sqrt(np.clip(inside / _BEVEL, 0, 1)) * 0.5 * _BEVEL + damage.relief
    shade = _shade(np.asarray(height * scene.size_px, np.float32))[..., None]
    ink = _turned_print(scene)
    texture = (1 + 0.05 * scene.brush)[..., None]
    plate = np.asarray(_METAL, np.float32) * texture * (1 - ink[..., 3:]) + ink[..., :3]
    plate = plate * shade * damage.tint
    shadow = 1 - 0.6 * np.exp(-np.maximum(np.roll(outline, 2, (0, 1)), 0) / 0.02)
    mat = np.asarray(_MAT, np.float32) * (1 + 0.12 * scene.grain[..., None]) * shadow[..., None]
    radiance = (plate * metal + mat * (1 - metal)) * scene.light
    levels = np.rint(255 * np.clip(radiance, 0, 1) + scene.noise)
    return np.clip(levels, 0, 255).astype(np.uint8)


def _shade(height_px: Array) -> Array:
    """Lambert's law on a relief (H, W) in pixels; 1 where it is flat."""
    down, right = np.gradient(height_px)
    facing = _LIGHT[2] - _LIGHT[0] * right - _LIGHT[1] * down
    lambert = facing / np.sqrt(1 + right**2 + down**2) / _LIGHT[2]
    return np.asarray(np.clip(lambert, 0.25, 1.5), np.float32)


@functools.cache
def _print_sheet(side: int) -> Image.Image:
    """The plate's print as RGBA, (side, side), drawn once and turned for each image."""
    sheet = Image.new("RGBA", (side, side), (24, 44, 92, 0))
    draw = ImageDraw.Draw(sheet)

    def at(x: float, y: float) -> tuple[float, float]:
        return (x + 0.5) * side, (y + 0.5) * side

    blue, amber = (24, 44, 92, 235), (214, 120, 24, 235)
    draw.ellipse((*at(-0.3, -0.21), *at(-0.18, -0.09)), outline=blue, width=round(0.014 * side))
    draw.polygon((at(-0.24, -0.185), at(-0.275, -0.125), at(-0.205, -0.125)), fill=amber)
    big = ImageFont.load_default(size=round(0.075 * side))
    small = ImageFont.load_default(size=round(0.042 * side))
    draw.text(at(-0.155, -0.15), "PC 27", fill=blue, font=big, anchor="lm")
    draw.text(at(-0.3, -0.03), "24 V  5 A  IP 65", fill=blue, font=small, anchor="lm")
    draw.text(at(-0.3, 0.03), "PLATE A", fill=blue, font=small, anchor="lm")
    draw.rectangle((*at(-0.3, 0.085), *at(-0.02, 0.1)), fill=amber)
    return sheet


def _turned_print(scene: _Scene) -> Array:
    """Print on this image, (H, W, 4): colour times opacity, then opacity; all 0 to 1."""
    side = 2 * scene.size_px
    cos, sin = math.cos(scene.angle), math.sin(scene.angle)
    middle_x, middle_y = (side * (0.5 + part) for part in scene.shift)
    to_sheet = (
        *(cos, sin, side / 2 - cos * middle_x - sin * middle_y),
        *(-sin, cos, side / 2 + sin * middle_x - cos * middle_y),
    )
    turned = _print_sheet(side).transform(
        (side, side), Image.Transform.AFFINE, to_sheet, Image.Resampling.BILINEAR
    )
    ink: Array = np.asarray(turned.reduce(2), dtype=np.float32) / np.float32(255)
    ink[..., :3] *= ink[..., 3:]
    return ink


def _spot(scene: _Scene, rng: np.random.Generator, margin: float) -> tuple[float, float]:
    """A place on the plate, `margin` away from every edge, in plate coordinates."""
    room = np.minimum(-_outline(scene), _openings(scene, None)) > margin
    row, column = rng.choice(np.argwhere(room))
    return float(scene.x[row, column]), float(scene.y[row, column])


def _stroke(scene: _Scene, points: NDArray[np.float64], widths: NDArray[np.float64]) -> Array:
    """Coverage (H, W) of a line through plate `points` (N, 2), `widths` (N,) in sides."""
    scale = 4
    sheet = Image.new("L", (scene.size_px * scale, scene.size_px * scale))
    draw = ImageDraw.Draw(sheet)
    pixels = [scene.to_image(x, y) for x, y in points]
    for (x, y), (to_x, to_y), width in zip(pixels, pixels[1:], widths, strict=False):
        line = (x * scale, y * scale, to_x * scale, to_y * scale)
        draw.line(line, fill=255, width=max(2, round(width * scene.size_px * scale)))
    coverage: Array = np.asarray(sheet.reduce(scale), dtype=np.float32) / np.float32(255)
    return coverage


def _on_metal(scene: _Scene, coverage: Array) -> Array:
    """Cut off what lies beyond the plate, and what is too faint to see."""
    metal = np.maximum(_outline(scene), -_openings(scene, None)) < 0
    return np.where(metal & (coverage > 0.15), coverage, np.float32(0))


def _scratch(scene: _Scene, rng: np.random.Generator) -> _Damage:
    """A thin, slightly bent groove across the brushing: bright metal with a dark flank."""
    x, y = _spot(scene, rng, 0.03)
    angle, length = math.radians(rng.uniform(30, 150)), rng.uniform(0.12, 0.26)
    along = np.linspace(-0.5, 0.5, 25)
    bend = rng.uniform(-0.18, 0.18) * length * (1 - 4 * along**2)
    xs = x + length * along * math.cos(angle) - bend * math.sin(angle)
    ys = y + length * along * math.sin(angle) + bend * math.cos(angle)
    widths = rng.uniform(0.005, 0.008) * (1 - 2.4 * along**2)
    line = _on_metal(scene, _stroke(scene, np.stack([xs, ys], axis=1), widths))
    tint = (1 + 0.28 * line)[..., None]
    return _Damage(region=line > 0, relief=-0.004 * line, tint=tint)


def _dent(scene: _Scene, rng: np.random.Generator) -> _Damage:
    """A shallow, slightly oval depression: dark towards the lamp, bright away from it."""
    radius = rng.uniform(0.03, 0.05)
    x, y = _spot(scene, rng, radius)
    oval, depth = rng.uniform(0.75, 1.3), rng.uniform(0.22, 0.34) * radius
    squared = (((scene.x - x) * oval) ** 2 + ((scene.y - y) / oval) ** 2) / radius**2
    bowl = np.clip(1 - squared, 0, None) ** 2
    region = _on_metal(scene, (squared < 0.9).astype(np.float32)) > 0
    return _Damage(region=region, relief=np.asarray(-depth * bowl, np.float32))


def _crack(scene: _Scene, rng: np.random.Generator) -> _Damage:
    """A dark jagged line that starts at an opening and thins out."""
    x, y = (_BORE, *_SCREW_HOLES)[rng.integers(0, 5)]
    start = _BORE_RADIUS if (x, y) == _BORE else _SCREW_RADIUS
    inward = math.atan2(-y, -x) if (x, y) != _BORE else rng.uniform(0, 2 * math.pi)
    steps = rng.integers(9, 15)
    headings = inward + rng.uniform(-0.4, 0.4) + rng.normal(0, 0.5, steps)
    lengths = rng.uniform(0.008, 0.018, steps)
    first = np.array([x, y]) + start * np.array([math.cos(inward), math.sin(inward)])
    moves = lengths[:, None] * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    points = np.vstack([first, first + np.cumsum(moves, axis=0)])
    line = _on_metal(scene, _stroke(scene, points, np.linspace(0.009, 0.004, steps)))
    return _Damage(region=line > 0, tint=(1 - 0.62 * line)[..., None])


def _stain(scene: _Scene, rng: np.random.Generator) -> _Damage:
    """A brownish smear with an irregular rim that is darker than its middle."""
    radius = rng.uniform(0.035, 0.065)
    x, y = _spot(scene, rng, 0.5 * radius)
    bearing = np.arctan2(scene.y - y, scene.x - x)
    reach = np.full(scene.x.shape, radius, dtype=np.float32)
    for lobes in (2, 3, 5, 7):
        strength = rng.uniform(0.1, 0.35) / lobes
        reach *= 1 + strength * np.sin(lobes * bearing + rng.uniform(0, 2 * math.pi))
    distance = np.hypot(scene.x - x, scene.y - y) - reach
    cover = np.clip(0.5 - distance / 0.008, 0, 1)
    rim = np.exp(-((distance / 0.008 + 0.8) ** 2))
    dose = rng.uniform(0.6, 0.9) * _on_metal(scene, np.asarray(cover, np.float32))
    absorbed = np.array([0.16, 0.24, 0.38], dtype=np.float32)
    tint = 1 - (dose * (0.75 + 0.5 * rim))[..., None] * absorbed
    return _Damage(region=dose > 0, tint=np.asarray(tint, np.float32))


def _missing_hole(scene: _Scene, rng: np.random.Generator) -> _Damage:
    """One screw hole was never drilled."""
    number = int(rng.integers(0, len(_SCREW_HOLES)))
    x, y = _SCREW_HOLES[number]
    region = np.hypot(scene.x - x, scene.y - y) < _SCREW_RADIUS + _BEVEL + 1 / scene.size_px
    return _Damage(region=region, closed_hole=number)


_DAMAGES: dict[str, Callable[[_Scene, np.random.Generator], _Damage]] = {
    "scratch": _scratch,
    "dent": _dent,
    "crack": _crack,
    "stain": _stain,
    "missing_hole": _missing_hole,
}
DEFECTS = tuple(_DAMAGES)
