"""Images of a gallery -> one labelled sheet, RGB, a row for each kind of image.

Each row shows two examples, the median-scoring and the most confusing one, each as image, truth
and heat map. The legend says what the colours mean.
"""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from patchcore_build.report.facts import sort_kinds
from patchcore_build.report.gallery import PREVIEW_PX, GalleryImage, Previews
from patchcore_build.report.html import four_digits
from patchcore_runtime.explain.heatmap import HeatmapScale, with_legend
from patchcore_runtime.files.names import printable

_PAPER_RGB = (255, 255, 255)
_INK_RGB = (24, 24, 32)
_FAINT_RGB = (100, 100, 112)
_EMPTY_RGB = (240, 240, 243)
_FRAME_RGB = (205, 205, 212)
_FONT_PX = 15
_TITLE_PX = 24
_CELL_PX = 240  # long side of a preview on the sheet
_GAP = 6  # between the three previews of one example
_SPACE = 28  # between examples and rows
_KIND_WIDTH = 150
_EXAMPLES = 2
_COLUMNS = ("image", "truth", "heat map")
_EXAMPLE_WIDTH = len(_COLUMNS) * (_CELL_PX + _GAP) - _GAP


def by_kind(images: Sequence[GalleryImage]) -> dict[str, list[GalleryImage]]:
    """Images of each kind, kept in the order given."""
    kinds = sort_kinds(image.scored.defect for image in images)
    return {kind: [image for image in images if image.scored.defect == kind] for kind in kinds}


def examples(images: Sequence[GalleryImage]) -> list[tuple[str, GalleryImage]]:
    """Choose what to show of one kind.

    Args:
        images: At least one, the most confusing first.

    Returns:
        The median-scoring image (the lower of two) and the most confusing other one, each with
        the words for it.
    """
    ranked = sorted(images, key=lambda image: (image.scored.score, image.scored.name))
    median = ranked[(len(ranked) - 1) // 2]
    others = [image for image in images if image is not median]
    return [("median", median), *[("most confusing", image) for image in others[: _EXAMPLES - 1]]]


def image_sheet(
    images: Sequence[GalleryImage], scale: HeatmapScale, *, title: str
) -> NDArray[np.uint8]:
    """Draw the sheet.

    Args:
        images: At least one, the most confusing first.
        scale: Of the heat maps.
        title: One line above everything.

    Returns:
        RGB, uint8, (height, width, 3); both follow from the number of kinds and their images.
    """
    rows = [(kind, len(of_kind), examples(of_kind)) for kind, of_kind in by_kind(images).items()]
    tops, bottom = _row_tops(rows)
    legend = Image.fromarray(with_legend(_blank(), scale, title=""))
    width = _SPACE + _KIND_WIDTH + _EXAMPLES * (_EXAMPLE_WIDTH + _SPACE) + legend.width + _SPACE
    canvas = Image.new("RGB", (width, max(bottom, tops[0] + legend.height)), _PAPER_RGB)
    draw = ImageDraw.Draw(canvas)
    title_font, font = _font(_TITLE_PX), _font(_FONT_PX)
    draw.text((_SPACE, _SPACE), printable(title), _INK_RGB, title_font, anchor="lt")
    for column in range(_EXAMPLES * len(_COLUMNS)):
        spot = (_left(column), tops[0] - 8)
        draw.text(spot, _COLUMNS[column % len(_COLUMNS)], _FAINT_RGB, font, anchor="ls")
    canvas.paste(legend, (width - legend.width - _SPACE, tops[0] - 12))
    for top, (kind, count, chosen) in zip(tops, rows, strict=True):
        label = _fit(printable(kind), font, _KIND_WIDTH - 12)
        draw.text((_SPACE, top), label, _INK_RGB, font, anchor="lt")
        counted = "1 image" if count == 1 else f"{count} images"
        draw.text((_SPACE, top + 22), counted, _FAINT_RGB, font, anchor="lt")
        for number, (words, image) in enumerate(chosen):
            _draw_example(canvas, (_left(number * len(_COLUMNS)), top), words, image)
    return np.asarray(canvas)


def _row_tops(
    rows: list[tuple[str, int, list[tuple[str, GalleryImage]]]],
) -> tuple[list[int], int]:
    """Upper edges of the rows' previews, and where the sheet ends."""
    tops, top = [], 2 * _SPACE + _TITLE_PX + 2 * _FONT_PX
    for _, _, chosen in rows:
        tops.append(top)
        tallest = max(_cell_size(image.previews)[1] for _, image in chosen)
        top += max(tallest, 3 * _FONT_PX) + 2 * _FONT_PX + _SPACE
    return tops, top


def _left(column: int) -> int:
    """Left edge of a column of previews, counted over all examples."""
    example, place = divmod(column, len(_COLUMNS))
    return _SPACE + _KIND_WIDTH + example * (_EXAMPLE_WIDTH + _SPACE) + place * (_CELL_PX + _GAP)


def _cell_size(previews: Previews) -> tuple[int, int]:
    """Width and height of a preview on the sheet."""
    scale = _CELL_PX / PREVIEW_PX
    return max(1, round(previews.width * scale)), max(1, round(previews.height * scale))


def _draw_example(
    canvas: Image.Image, corner: tuple[int, int], words: str, image: GalleryImage
) -> None:
    """Paste three previews and write one line below them."""
    left, top = corner
    font, draw, previews = _font(_FONT_PX), ImageDraw.Draw(canvas), image.previews
    size = _cell_size(previews)
    for number, encoded in enumerate((previews.photo, previews.truth, previews.heat)):
        spot = (left + number * (_CELL_PX + _GAP), top)
        if encoded is None:
            _draw_empty(draw, spot, size, previews.no_truth)
        else:
            with Image.open(io.BytesIO(encoded)) as preview:
                canvas.paste(preview.resize(size, Image.Resampling.LANCZOS), spot)
            frame = (spot[0] - 1, top - 1, spot[0] + size[0], top + size[1])
            draw.rectangle(frame, outline=_FRAME_RGB)  # so that white images have an edge
    score = four_digits(image.scored.score)
    line = f"{words}: {printable(image.scored.name)}, score {score}, {image.outcome}"
    spot = (left, top + size[1] + 8)
    draw.text(spot, _fit(line, font, _EXAMPLE_WIDTH), _INK_RGB, font, anchor="lt")


def _draw_empty(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], size: tuple[int, int], words: str
) -> None:
    """Write words where a preview would be."""
    (left, top), right, bottom = corner, corner[0] + size[0], corner[1] + size[1]
    draw.rectangle((left, top, right - 1, bottom - 1), _EMPTY_RGB)
    middle = ((left + right) / 2, (top + bottom) / 2)
    font = _font(_FONT_PX)
    if font.getlength(words) > size[0] - 8:
        words = words.replace(" ", "\n")
    draw.text(middle, words, _FAINT_RGB, font, anchor="mm", align="center")


def _blank() -> NDArray[np.uint8]:
    """One column of paper: `with_legend` around it is the legend alone."""
    return np.full((_CELL_PX, 1, 3), 255, np.uint8)


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size_px)


def _fit(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> str:
    """Cut a line that is too long in its middle, where names differ least."""
    if font.getlength(line) <= width_px:
        return line
    kept = len(line) - 1
    while kept > 1 and font.getlength(_without_middle(line, kept)) > width_px:
        kept -= 1
    return _without_middle(line, kept)


def _without_middle(line: str, kept: int) -> str:
    return f"{line[: kept // 2]}...{line[len(line) - (kept - kept // 2) :]}"
