"""Five kinds of damage to the demo's plate.

Scene, random generator -> Damage: the changes, and the exact region outside of which there are
none.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from patchcore_build.data.demo_scene import (
    BEVEL,
    BORE,
    BORE_RADIUS,
    SCREW_HOLES,
    SCREW_RADIUS,
    Array,
    Damage,
    Scene,
    openings,
    outline,
)


def _spot(scene: Scene, rng: np.random.Generator, margin: float) -> tuple[float, float]:
    """A random place on the plate, `margin` away from every edge, in plate coordinates."""
    room = np.minimum(-outline(scene), openings(scene, None)) > margin
    row, column = rng.choice(np.argwhere(room))
    return float(scene.x[row, column]), float(scene.y[row, column])


def _stroke(scene: Scene, points: NDArray[np.float64], widths: NDArray[np.float64]) -> Array:
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


def _on_metal(scene: Scene, coverage: Array) -> Array:
    """Remove coverage outside of the plate, and coverage that is too faint to see."""
    metal = np.maximum(outline(scene), -openings(scene, None)) < 0
    return np.where(metal & (coverage > 0.15), coverage, np.float32(0))


def _scratch(scene: Scene, rng: np.random.Generator) -> Damage:
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
    return Damage(region=line > 0, relief=-0.004 * line, tint=tint)


def _dent(scene: Scene, rng: np.random.Generator) -> Damage:
    """A shallow, slightly oval depression: dark towards the lamp, bright away from it."""
    radius = rng.uniform(0.03, 0.05)
    x, y = _spot(scene, rng, radius)
    oval, depth = rng.uniform(0.75, 1.3), rng.uniform(0.22, 0.34) * radius
    squared = (((scene.x - x) * oval) ** 2 + ((scene.y - y) / oval) ** 2) / radius**2
    bowl = np.clip(1 - squared, 0, None) ** 2
    region = _on_metal(scene, (squared < 0.9).astype(np.float32)) > 0
    return Damage(region=region, relief=np.asarray(-depth * bowl, np.float32))


def _crack(scene: Scene, rng: np.random.Generator) -> Damage:
    """A dark jagged line that starts at an opening and thins out."""
    x, y = (BORE, *SCREW_HOLES)[rng.integers(0, 5)]
    start = BORE_RADIUS if (x, y) == BORE else SCREW_RADIUS
    inward = math.atan2(-y, -x) if (x, y) != BORE else rng.uniform(0, 2 * math.pi)
    steps = rng.integers(9, 15)
    headings = inward + rng.uniform(-0.4, 0.4) + rng.normal(0, 0.5, steps)
    lengths = rng.uniform(0.008, 0.018, steps)
    first = np.array([x, y]) + start * np.array([math.cos(inward), math.sin(inward)])
    moves = lengths[:, None] * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    points = np.vstack([first, first + np.cumsum(moves, axis=0)])
    line = _on_metal(scene, _stroke(scene, points, np.linspace(0.009, 0.004, steps)))
    return Damage(region=line > 0, tint=(1 - 0.62 * line)[..., None])


def _stain(scene: Scene, rng: np.random.Generator) -> Damage:
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
    return Damage(region=dose > 0, tint=np.asarray(tint, np.float32))


def _missing_hole(scene: Scene, rng: np.random.Generator) -> Damage:
    """One screw hole was never drilled."""
    number = int(rng.integers(0, len(SCREW_HOLES)))
    x, y = SCREW_HOLES[number]
    region = np.hypot(scene.x - x, scene.y - y) < SCREW_RADIUS + BEVEL + 1 / scene.size_px
    return Damage(region=region, closed_hole=number)


DAMAGES: dict[str, Callable[[Scene, np.random.Generator], Damage]] = {
    "scratch": _scratch,
    "dent": _dent,
    "crack": _crack,
    "stain": _stain,
    "missing_hole": _missing_hole,
}
