"""The demo's plate as one image: pose, texture and light -> RGB pixels.

random generator -> Scene; Scene, Damage -> uint8 (H, W, 3). Shapes are signed distances to an edge,
so that every edge is anti-aliased.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Array = NDArray[np.float32]

# Plate coordinates: the unit is the side of the image, the origin the middle of the plate.
_PLATE = (0.42, 0.34, 0.055)  # half width, half height, corner radius
SCREW_HOLES = ((-0.355, -0.275), (0.355, -0.275), (-0.355, 0.275), (0.355, 0.275))
SCREW_RADIUS, BORE, BORE_RADIUS = 0.028, (0.17, 0.0), 0.1
_SLOT = ((-0.28, 0.2), (-0.06, 0.2), 0.021)  # from, to, radius
BEVEL = 0.014
_METAL = (0.66, 0.665, 0.675)
_MAT = (0.105, 0.11, 0.12)
_LIGHT = (-0.45, -0.6, 0.66)  # from the upper left, towards the camera


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One image before any damage: pose of the plate, its texture, and the light on it."""

    size_px: int
    angle: float  # radians
    shift: tuple[float, float]  # of the plate's middle, in units of the image's side
    x: Array  # (H, W) plate coordinates of every pixel
    y: Array
    brush: Array  # (H, W) brushing, mean 0, standard deviation 1
    grain: Array  # (H, W) grain of the mat below
    light: Array  # (H, W, 3) gain of lamp, gradient and colour
    noise: Array  # (H, W, 3) noise of the sensor, in levels of 255

    def to_image(self, x: float, y: float) -> tuple[float, float]:
        """Plate coordinates -> pixels."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        right, down = cos * x - sin * y + self.shift[0], sin * x + cos * y + self.shift[1]
        return (right + 0.5) * self.size_px, (down + 0.5) * self.size_px


@dataclass(frozen=True, kw_only=True)
class Damage:
    """The changes of a defect, and the exact region (H, W) outside of which nothing changes."""

    region: NDArray[np.bool_]
    relief: Array | float = 0.0  # (H, W) height in units of the image's side
    tint: Array | float = 1.0  # (H, W, 3) factor on the colour
    closed_hole: int | None = None


def draw_scene(rng: np.random.Generator, size_px: int) -> Scene:
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
    return Scene(
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


def outline(scene: Scene) -> Array:
    """Signed distance (H, W) to the plate's outer edge, in sides; negative on the plate."""
    width, height, radius = _PLATE
    over_x, over_y = np.abs(scene.x) - (width - radius), np.abs(scene.y) - (height - radius)
    outside = np.hypot(np.maximum(over_x, 0), np.maximum(over_y, 0))
    return np.asarray(outside + np.minimum(np.maximum(over_x, over_y), 0) - radius, np.float32)


def openings(scene: Scene, closed_hole: int | None) -> Array:
    """Signed distance (H, W) to the nearest hole's edge, in sides; negative inside a hole."""
    distance = np.hypot(scene.x - BORE[0], scene.y - BORE[1]) - BORE_RADIUS
    (left, level), (end, _), radius = _SLOT
    along = np.clip(scene.x, left, end)
    distance = np.minimum(distance, np.hypot(scene.x - along, scene.y - level) - radius)
    for number, (x, y) in enumerate(SCREW_HOLES):
        if number != closed_hole:
            hole = np.hypot(scene.x - x, scene.y - y) - SCREW_RADIUS
            distance = np.minimum(distance, hole)
    return np.asarray(distance, np.float32)


def render_scene(scene: Scene, damage: Damage | None) -> NDArray[np.uint8]:
    """Put mat, plate, print, damage, light and noise together."""
    damage = damage or Damage(region=np.zeros(scene.x.shape, dtype=np.bool_))
    outer, holes = outline(scene), openings(scene, damage.closed_hole)
    metal = np.clip(0.5 - np.maximum(outer, -holes) * scene.size_px, 0, 1)[..., None]
    inside = np.minimum(-outer, holes)  # distance to the nearest edge
    height = np.sqrt(np.clip(inside / BEVEL, 0, 1)) * 0.5 * BEVEL + damage.relief
    shade = _shade(np.asarray(height * scene.size_px, np.float32))[..., None]
    ink = _turned_print(scene)
    texture = (1 + 0.05 * scene.brush)[..., None]
    plate = np.asarray(_METAL, np.float32) * texture * (1 - ink[..., 3:]) + ink[..., :3]
    plate = plate * shade * damage.tint
    shadow = 1 - 0.6 * np.exp(-np.maximum(np.roll(outer, 2, (0, 1)), 0) / 0.02)
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


def _turned_print(scene: Scene) -> Array:
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
