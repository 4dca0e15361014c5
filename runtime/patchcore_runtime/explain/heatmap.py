"""Show an anomaly map on its photograph, on one fixed scale per artifact.

image (H, W, 3) uint8 + anomaly map (H, W) + `HeatmapScale` -> image, uint8 RGB.
A colour means a value and never a rank inside one image, so good parts do not appear hot.
Colours have even OKLab lightness steps (Ottosson 2020, https://bottosson.github.io/posts/oklab/).
"""

import functools
import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from patchcore_runtime.files.whole import written_whole

__all__ = [
    "HeatmapScale",
    "colorize",
    "overlay",
    "save_heatmap",
    "save_png",
    "shorten",
    "text_font",
    "with_legend",
]

_PHOTO_DIM = 0.7  # keeps the grey photograph darker than the contour and the hottest colours
_HEAT_OPACITY = 0.85  # at `high`; the photograph remains visible even at this value
_CONTOUR_RGB = (255, 255, 255)
_PAPER_RGB = (255, 255, 255)
_INK_RGB = (24, 24, 32)
_BAND_PX = 2**20
_SMALLEST_FONT_PX = 12  # Pillow's built-in font is illegible at smaller sizes


@dataclass(frozen=True, kw_only=True)
class HeatmapScale:
    """The values of the colour map's ends and of the contour line.

    All three are in the unit of the anomaly map. Values at or below `low` are darkest, values at or
    above `high` brightest; in between the colour depends linearly on the value.

    Raises:
        ValueError: The values are not finite or not low < threshold < high.
    """

    low: float
    threshold: float
    high: float

    def __post_init__(self) -> None:
        ordered = self.low < self.threshold < self.high
        if not (ordered and math.isfinite(self.high - self.low)):
            raise ValueError(
                "HeatmapScale: expected finite low < threshold < high, got "
                f"{self.low} / {self.threshold} / {self.high}; take them from good images' maps"
            )


def colorize(anomaly_map: NDArray[np.float32], scale: HeatmapScale) -> NDArray[np.uint8]:
    """Convert each value to its colour, independent of the other values of the map.

    Args:
        anomaly_map: Shape (H, W), finite, in the unit of `scale`.
        scale: Values of the darkest and the brightest colour.

    Returns:
        RGB, uint8, shape (H, W, 3).

    Raises:
        ValueError: `anomaly_map` is not a finite (H, W).
    """
    steps = np.rint(_heat(anomaly_map, scale) * np.float32(255))
    colors: NDArray[np.uint8] = np.take(_color_table(), steps.astype(np.uint8), axis=0)
    return colors


def overlay(
    image: NDArray[np.uint8],
    anomaly_map: NDArray[np.float32],
    scale: HeatmapScale,
    *,
    contour: bool = True,
) -> NDArray[np.uint8]:
    """Draw the heat map over the dimmed grey photograph.

    Opacity grows linearly from 0 at `scale.low`, so normal areas show only the photograph. The
    contour is drawn just outside the pixels above `scale.threshold`; its thickness depends on the
    size of the image.

    Args:
        image: RGB photograph, uint8, shape (H, W, 3).
        anomaly_map: Shape (H, W), finite, in the geometry of `image`.
        scale: Values of the colours and of the contour.
        contour: Whether to draw the contour line.

    Returns:
        RGB, uint8, shape (H, W, 3).

    Raises:
        ValueError: `image` is not uint8 (H, W, 3) or `anomaly_map` not its finite (H, W).
    """
    _check_image(image)
    if anomaly_map.shape != image.shape[:2]:
        raise ValueError(
            f"anomaly map: expected the photograph's shape {image.shape[:2]}, got "
            f"{anomaly_map.shape}; use Result.map_on(image)"
        )
    drawn = np.empty_like(image)
    rows = max(1, _BAND_PX // image.shape[1])
    for top in range(0, len(image), rows):  # in bands, because floats need several times the memory
        band = slice(top, top + rows)
        drawn[band] = _blend(image[band], anomaly_map[band], scale)
    if contour:
        above = anomaly_map > scale.threshold
        thickness_px = max(1, round(min(above.shape) / 200))
        drawn[_dilate(above, thickness_px) & ~above] = _CONTOUR_RGB
    return drawn


def _blend(
    image: NDArray[np.uint8], anomaly_map: NDArray[np.float32], scale: HeatmapScale
) -> NDArray[np.uint8]:
    grey = np.asarray(Image.fromarray(image).convert("L"), dtype=np.float32) * _PHOTO_DIM
    opacity = (_heat(anomaly_map, scale) * np.float32(_HEAT_OPACITY))[..., None]
    blended = grey[..., None] * (1 - opacity) + colorize(anomaly_map, scale) * opacity
    drawn: NDArray[np.uint8] = np.rint(blended).astype(np.uint8)
    return drawn


def with_legend(
    image: NDArray[np.uint8], scale: HeatmapScale, *, title: str = ""
) -> NDArray[np.uint8]:
    """Add a colour bar to the right of an image and a title above it.

    The bar is labelled with the three values of `scale`. The font size grows with the image and
    never becomes illegible, so very small images get wide margins. The image's pixels are kept.

    Args:
        image: RGB, uint8, shape (H, W, 3).
        scale: Values to write beside the bar.
        title: One line; a line that is too long ends in an ellipsis.

    Returns:
        RGB, uint8, larger than `image` in both directions.

    Raises:
        ValueError: `image` is not uint8 (H, W, 3).
    """
    _check_image(image)
    height, width = image.shape[:2]
    font_px = max(_SMALLEST_FONT_PX, round(math.sqrt(height * width) / 32))
    font = text_font(font_px)
    labels = _labels(scale)
    margin, bar_height = font_px, max(height, 7 * font_px)
    top = margin + (2 * font_px if title.strip() else 0)
    bar_left = margin + width + margin
    labels_left = bar_left + 2 * font_px
    labels_width = math.ceil(max(font.getlength(text) for text in labels))
    size = (labels_left + labels_width + margin, top + bar_height + margin)

    canvas = Image.new("RGB", size, _PAPER_RGB)
    canvas.paste(Image.fromarray(image), (margin, top))
    draw = ImageDraw.Draw(canvas)
    line = shorten(" ".join(title.splitlines()), font, size[0] - 2 * margin)
    draw.text((margin, margin // 2 + font_px // 2), line, fill=_INK_RGB, font=font, anchor="lt")
    _draw_bar(canvas, scale, (bar_left, top), (font_px, bar_height))
    spots = _spread(_fractions_from_top(scale), bar_height, font_px)
    for text, spot in zip(labels, spots, strict=True):
        draw.text((labels_left, top + spot), text, fill=_INK_RGB, font=font, anchor="lm")
    return np.asarray(canvas, dtype=np.uint8)


def save_heatmap(
    path: Path,
    image: NDArray[np.uint8],
    anomaly_map: NDArray[np.float32],
    scale: HeatmapScale,
    *,
    title: str = "",
) -> None:
    """Write photograph, overlay and legend side by side as one PNG.

    The file appears whole or not at all; an older one of the same name is replaced.

    Args:
        path: Where to write; its folder exists and its name ends in .png.
        image: RGB photograph, uint8, shape (H, W, 3).
        anomaly_map: Shape (H, W), finite, in the geometry of `image`.
        scale: Values of the colours and of the contour.
        title: One line above the images.

    Raises:
        ValueError: The name does not end in .png, or the arrays do not fit each other.
        OSError: The folder is missing or cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path}: expected a name ending in .png, got {path.suffix!r}; rename it")
    heated = overlay(image, anomaly_map, scale)
    gap_px = max(2, image.shape[1] // 50)
    gap = np.full((image.shape[0], gap_px, 3), _PAPER_RGB, dtype=np.uint8)
    save_png(path, with_legend(np.hstack([image, gap, heated]), scale, title=title))


def save_png(path: Path, image: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.bool_]) -> None:
    """Write one image; whole or not at all, replacing an older one.

    Args:
        path: Where to write, in an existing folder.
        image: RGB (H, W, 3) in uint8, grey (H, W) in uint8 or uint16, or a mask (H, W).

    Raises:
        OSError: The folder is missing or cannot be written.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: expected an existing folder, found none; create it first")
    with written_whole(path) as unfinished:
        Image.fromarray(image).save(unfinished, format="PNG")


def _check_image(image: NDArray[np.uint8]) -> None:
    """Raise ValueError unless `image` is a non-empty uint8 array (H, W, 3)."""
    fits = image.ndim == 3 and image.shape[2:] == (3,) and image.size > 0
    if not fits or image.dtype != np.uint8:
        raise ValueError(
            f"image: expected uint8 (H, W, 3), got {image.dtype} {image.shape}; "
            "convert it to 8-bit RGB"
        )


def _heat(anomaly_map: NDArray[np.float32], scale: HeatmapScale) -> NDArray[np.float32]:
    """Scale (H, W) values to [0, 1]: 0 at `low` and below, 1 at `high` and above."""
    if anomaly_map.ndim != 2 or anomaly_map.size == 0 or not np.isfinite(anomaly_map).all():
        raise ValueError(
            f"anomaly map: expected finite values of shape (H, W), got {anomaly_map.shape}"
            "; draw one map at a time and look for NaN or infinity"
        )
    # In float32, close limits around large values would cancel.
    heat = (anomaly_map.astype(np.float64) - scale.low) / (scale.high - scale.low)
    return np.clip(heat, 0.0, 1.0).astype(np.float32)


def _dilate(region: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Dilate a region (H, W) by `radius` pixels with an octagon."""
    grown: NDArray[np.bool_] = region.copy()
    for step in range(radius):
        before = grown.copy()
        grown[1:] |= before[:-1]
        grown[:-1] |= before[1:]
        if step % 2:  # every second step also reaches the diagonal neighbours
            before = grown.copy()
        grown[:, 1:] |= before[:, :-1]
        grown[:, :-1] |= before[:, 1:]
    return grown


@functools.cache
def _color_table() -> NDArray[np.uint8]:
    """Load 256 sRGB colours, (256, 3): equal steps of lightness, hues from blue over red to yellow.

    The C++ runner compiles the same file, so that both programs draw the same colours.
    """
    lines = files("patchcore_runtime.explain").joinpath("heatmap_colors.csv").read_text()
    table = np.array([line.split(",")[:3] for line in lines.split()]).astype(np.uint8)
    table.setflags(write=False)
    return table


def text_font(font_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Load Pillow's built-in font, which gives the same image on every machine."""
    return ImageFont.load_default(size=font_px)


def _labels(scale: HeatmapScale) -> list[str]:
    """Format the three values, from the top of the bar, with enough digits to differ."""
    values = (scale.high, scale.threshold, scale.low)
    digits = next(d for d in range(3, 18) if len({f"{value:.{d}g}" for value in values}) == 3)
    high, threshold, low = (f"{value:.{digits}g}" for value in values)
    return [high, f"{threshold}  threshold", low]


def _fractions_from_top(scale: HeatmapScale) -> list[float]:
    """Return the positions of the three labels: 0 is the upper end of the bar, 1 the lower one."""
    return [0.0, (scale.high - scale.threshold) / (scale.high - scale.low), 1.0]


def _spread(fractions: list[float], bar_height: int, font_px: int) -> list[int]:
    """Compute the centres of the labels along the bar, inside it and without overlap."""
    first, last, apart = font_px // 2, bar_height - font_px // 2, 2 * font_px
    middle = round(fractions[1] * bar_height)
    return [first, min(max(middle, first + apart), last - apart), last]


def shorten(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> str:
    """Cut `line` so that it fits into `width_px`."""
    if font.getlength(line) <= width_px:
        return line
    while line and font.getlength(line + "...") > width_px:
        line = line[:-1]
    return line + "..."


def _draw_bar(
    canvas: Image.Image, scale: HeatmapScale, corner: tuple[int, int], size: tuple[int, int]
) -> None:
    """Draw the colour bar, its frame, and a notch at the threshold."""
    (left, top), (width, height) = corner, size
    steps = np.rint(np.linspace(255, 0, height)).astype(np.uint8)
    bar = np.take(_color_table(), steps, axis=0)[:, None].repeat(width, axis=1)
    canvas.paste(Image.fromarray(bar), (left, top))
    draw = ImageDraw.Draw(canvas)
    line_px = max(1, width // 10)
    draw.rectangle((left, top, left + width - 1, top + height - 1), outline=_INK_RGB, width=line_px)
    notch = top + round(_fractions_from_top(scale)[1] * height)
    draw.line((left, notch, left + width - 1, notch), fill=_CONTOUR_RGB, width=max(2, line_px))
    draw.line((left + width, notch, left + width * 3 // 2, notch), fill=_INK_RGB, width=line_px)
