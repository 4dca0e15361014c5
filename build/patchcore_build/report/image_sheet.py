"""Shots of a gallery -> one labelled picture, RGB, a row for each kind of picture.

Each row shows two examples, the median-scoring and the most confusing one, each as photograph,
truth and heat map. The legend says what the colours stand for.
"""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from patchcore_build.report.facts import four_digits, printable, sort_kinds
from patchcore_build.report.gallery import THUMBNAIL_PX, Shot, Thumbnails
from patchcore_runtime.explain.heatmap import HeatmapScale, with_legend

_PAPER_RGB = (255, 255, 255)
_INK_RGB = (24, 24, 32)
_FAINT_RGB = (100, 100, 112)
_EMPTY_RGB = (240, 240, 243)
_FRAME_RGB = (205, 205, 212)
_FONT_PX = 15
_TITLE_PX = 24
_GAP = 6  # between the three pictures of one example
_SPACE = 28  # between examples and rows
_KIND_WIDTH = 150
_EXAMPLES = 2
_COLUMNS = ("photograph", "truth", "heat map")
_EXAMPLE_WIDTH = len(_COLUMNS) * (THUMBNAIL_PX + _GAP) - _GAP


def by_kind(shots: Sequence[Shot]) -> dict[str, list[Shot]]:
    """Shots of each kind, kept in the order given."""
    kinds = sort_kinds(shot.image.defect for shot in shots)
    return {kind: [shot for shot in shots if shot.image.defect == kind] for kind in kinds}


def examples(shots: Sequence[Shot]) -> list[tuple[str, Shot]]:
    """Choose what to show of one kind.

    Args:
        shots: At least one, the most confusing first.

    Returns:
        The median-scoring shot (the lower of two) and the most confusing other one, each with
        the words for it.
    """
    ranked = sorted(shots, key=lambda shot: (shot.image.score, shot.image.name))
    median = ranked[(len(ranked) - 1) // 2]
    others = [shot for shot in shots if shot is not median]
    return [("median", median), *[("most confusing", shot) for shot in others[: _EXAMPLES - 1]]]


def picture_sheet(shots: Sequence[Shot], scale: HeatmapScale, *, title: str) -> NDArray[np.uint8]:
    """Draw the sheet.

    Args:
        shots: At least one, the most confusing first.
        scale: Of the heat maps.
        title: One line above everything.

    Returns:
        RGB, uint8, (height, width, 3); both follow from the number of kinds and their pictures.
    """
    rows = [(kind, len(of_kind), examples(of_kind)) for kind, of_kind in by_kind(shots).items()]
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
        pictures = "1 picture" if count == 1 else f"{count} pictures"
        draw.text((_SPACE, top + 22), pictures, _FAINT_RGB, font, anchor="lt")
        for number, (words, shot) in enumerate(chosen):
            _draw_example(canvas, (_left(number * len(_COLUMNS)), top), words, shot)
    return np.asarray(canvas)


def _row_tops(rows: list[tuple[str, int, list[tuple[str, Shot]]]]) -> tuple[list[int], int]:
    """Upper edges of the rows' pictures, and where the sheet ends."""
    tops, top = [], 2 * _SPACE + _TITLE_PX + 2 * _FONT_PX
    for _, _, chosen in rows:
        tops.append(top)
        tallest = max(shot.thumbnails.height for _, shot in chosen)
        top += max(tallest, 3 * _FONT_PX) + 2 * _FONT_PX + _SPACE
    return tops, top


def _left(column: int) -> int:
    """Left edge of a picture column, counted over all examples."""
    example, picture = divmod(column, len(_COLUMNS))
    return (
        _SPACE + _KIND_WIDTH + example * (_EXAMPLE_WIDTH + _SPACE) + picture * (THUMBNAIL_PX + _GAP)
    )


def _draw_example(canvas: Image.Image, corner: tuple[int, int], words: str, shot: Shot) -> None:
    """Paste three thumbnails and write one line below them."""
    left, top = corner
    font, draw, small = _font(_FONT_PX), ImageDraw.Draw(canvas), shot.thumbnails
    for number, encoded in enumerate((small.photo, small.truth, small.heat)):
        spot = (left + number * (THUMBNAIL_PX + _GAP), top)
        if encoded is None:
            _draw_empty(draw, spot, small)
        else:
            canvas.paste(Image.open(io.BytesIO(encoded)), spot)
            frame = (spot[0] - 1, top - 1, spot[0] + small.width, top + small.height)
            draw.rectangle(frame, outline=_FRAME_RGB)  # white photographs end somewhere too
    score = four_digits(shot.image.score)
    line = f"{words}: {printable(shot.image.name)}, score {score}, {shot.outcome}"
    spot = (left, top + small.height + 8)
    draw.text(spot, _fit(line, font, _EXAMPLE_WIDTH), _INK_RGB, font, anchor="lt")


def _draw_empty(draw: ImageDraw.ImageDraw, corner: tuple[int, int], size: Thumbnails) -> None:
    """Say in a thumbnail's place why there is none."""
    (left, top), right, bottom = corner, corner[0] + size.width, corner[1] + size.height
    draw.rectangle((left, top, right - 1, bottom - 1), _EMPTY_RGB)
    middle = ((left + right) / 2, (top + bottom) / 2)
    font, words = _font(_FONT_PX), size.no_truth
    if font.getlength(words) > size.width - 8:
        words = words.replace(" ", "\n")
    draw.text(middle, words, _FAINT_RGB, font, anchor="mm", align="center")


def _blank() -> NDArray[np.uint8]:
    """One column of paper: `with_legend` around it is the legend alone."""
    return np.full((THUMBNAIL_PX, 1, 3), 255, np.uint8)


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
