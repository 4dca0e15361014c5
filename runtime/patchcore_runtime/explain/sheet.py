"""A sheet that explains a score: the photograph, and patches beside their nearest normal patches.

photograph + result + evidence -> RGB sheet. Training images come from thumbnails.bin. Without
thumbnails the sheet shows an empty frame with the name of the training image and the position.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from patchcore_runtime.artifact.folder import THUMBNAILS, Artifact
from patchcore_runtime.explain.evidence import PatchEvidence, on_photograph
from patchcore_runtime.explain.heatmap import HeatmapScale, overlay, shorten, text_font
from patchcore_runtime.explain.regions import Box
from patchcore_runtime.image.placement import Placement, place_input

if TYPE_CHECKING:
    from patchcore_runtime.result import Result

_PAPER_RGB = (255, 255, 255)
_INK_RGB = (24, 24, 32)
_FAINT_RGB = (100, 100, 112)
_EMPTY_RGB = (240, 240, 243)
_FRAME_RGB = (205, 205, 212)
_ALARM_RGB = (190, 30, 45)
_CALM_RGB = (20, 120, 70)
_PHOTO_PX = 460  # long side of the photograph
_CROP_PX = 176
_CONTEXT_PX = 104  # side of a crop in pixels of the input
_FONT_PX, _TITLE_PX = 15, 22
_SPACE, _GAP = 24, 12
_WORDS_PX = 300
_HEAD_PX = _SPACE + 2 * _TITLE_PX + 2 * _FONT_PX


def explain_sheet(
    artifact: Artifact,
    photograph: Image.Image,
    result: "Result",
    evidence: Sequence[PatchEvidence],
    *,
    scale: HeatmapScale,
    name: str,
) -> NDArray[np.uint8]:
    """Draw the sheet of one image.

    Args:
        artifact: Artifact of the detector that scored the image.
        photograph: RGB, oriented as shown.
        result: Result of that photograph.
        evidence: `Detector.explain` of that result.
        scale: The detector's colour scale.
        name: Title of the sheet.

    Returns:
        RGB, uint8, (height, width, 3).

    Raises:
        ArtifactError: thumbnails.bin is damaged.
    """
    heat = overlay(np.asarray(photograph), result.map_on(photograph), scale)
    shown = [_marked(image, evidence) for image in (Image.fromarray(heat), photograph)]
    rows = len(evidence) * (_CROP_PX + _GAP)
    left = _SPACE + shown[0].width + _SPACE
    size = (
        left + 2 * (_CROP_PX + _GAP) + _WORDS_PX + _SPACE,
        _HEAD_PX + max(2 * (shown[0].height + _GAP), rows) - _GAP + _SPACE,
    )
    sheet = Image.new("RGB", size, _PAPER_RGB)
    _write_head(sheet, result, name, left)
    for place, image in enumerate(shown):
        sheet.paste(image, (_SPACE, _HEAD_PX + place * (image.height + _GAP)))
    for number, one in enumerate(evidence, start=1):
        corner = (left, _HEAD_PX + (number - 1) * (_CROP_PX + _GAP))
        ours = _crop(photograph, result.placement, one.box)
        sheet.paste(ours, corner)
        sheet.paste(_normal_crop(artifact, one), (corner[0] + _CROP_PX + _GAP, corner[1]))
        words = (corner[0] + 2 * (_CROP_PX + _GAP), corner[1])
        _write_words(ImageDraw.Draw(sheet), words, one, number)
    return np.asarray(sheet)


def _write_head(sheet: Image.Image, result: "Result", name: str, left: int) -> None:
    draw = ImageDraw.Draw(sheet)
    title, font = text_font(_TITLE_PX), text_font(_FONT_PX)
    verdict = result.verdict.replace("_", " ")
    colour = _ALARM_RGB if result.is_anomalous else _CALM_RGB
    width = sheet.width - 2 * _SPACE
    draw.text((_SPACE, _SPACE), shorten(name, title, width), _INK_RGB, title, anchor="lt")
    line = f"{verdict}: score {result.score:.4g}, threshold {result.threshold:.4g}"
    draw.text((_SPACE, _SPACE + _TITLE_PX + 10), line, colour, font, anchor="lt")
    for column, words in enumerate(("this image", "nearest normal patch")):
        spot = (left + column * (_CROP_PX + _GAP), _HEAD_PX - 8)
        draw.text(spot, words, _FAINT_RGB, font, anchor="ls")


def _marked(image: Image.Image, evidence: Sequence[PatchEvidence]) -> Image.Image:
    """Return an image at the sheet's size, with the patches framed and numbered."""
    scale = _PHOTO_PX / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    shown = image.resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(shown)
    boxes = [tuple(round(side * scale) for side in one.box) for one in evidence]
    for top, left, bottom, right in boxes:
        _frame(draw, (top, left, bottom, right))
    for number, (top, left, _, _) in enumerate(boxes, start=1):  # on top of all frames
        _badge(draw, (max(left - 2, 11), max(top - 2, 11)), number)
    return shown


def _normal_crop(artifact: Artifact, one: PatchEvidence) -> Image.Image:
    """Draw the nearest normal patch on its training image, or an empty frame."""
    images = artifact.thumbnails
    if not images or not images[one.normal_number].jpeg:
        empty = Image.new("RGB", (_CROP_PX, _CROP_PX), _EMPTY_RGB)
        draw = ImageDraw.Draw(empty)
        middle = (_CROP_PX // 2, _CROP_PX // 2)
        draw.text(middle, "no thumbnail kept", _FAINT_RGB, text_font(_FONT_PX), anchor="mm")
        return _bordered(empty)
    kept = images[one.normal_number]
    image = kept.decode(str(artifact.path(THUMBNAILS)))
    settings = artifact.manifest.preprocess
    photo = place_input(kept.photo_height, kept.photo_width, settings)
    small = Placement(
        photo_height=image.height,
        photo_width=image.width,
        resized_height=photo.resized_height,
        resized_width=photo.resized_width,
        top=photo.top,
        left=photo.left,
    )
    return _crop(image, small, on_photograph(one.normal_box, small))


def _crop(image: Image.Image, place: Placement, box: Box) -> Image.Image:
    """Cut out a square around a patch's box, shifted to lie within the image."""
    height = min(place.photo_height, _CONTEXT_PX * place.photo_height / place.resized_height)
    width = min(place.photo_width, _CONTEXT_PX * place.photo_width / place.resized_width)
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    top = min(max(0.0, middle[0] - height / 2), place.photo_height - height)
    left = min(max(0.0, middle[1] - width / 2), place.photo_width - width)
    scale = min(_CROP_PX / height, _CROP_PX / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    cut = image.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
    draw = ImageDraw.Draw(cut)
    corners = (box[0] - top, box[1] - left, box[2] - top, box[3] - left)
    framed = tuple(round(side * scale) for side in corners)
    _frame(draw, (framed[0], framed[1], framed[2], framed[3]))
    square = Image.new("RGB", (_CROP_PX, _CROP_PX), _EMPTY_RGB)
    square.paste(cut, ((_CROP_PX - cut.width) // 2, (_CROP_PX - cut.height) // 2))
    return _bordered(square)


def _bordered(square: Image.Image) -> Image.Image:
    """Draw a border so that white crops have a visible edge."""
    ImageDraw.Draw(square).rectangle((0, 0, _CROP_PX - 1, _CROP_PX - 1), outline=_FRAME_RGB)
    return square


def _frame(draw: ImageDraw.ImageDraw, box: Box) -> None:
    """Draw a white line between two dark ones, which is visible on any image."""
    top, left, bottom, right = box
    for grow, colour in ((2, _INK_RGB), (1, _PAPER_RGB), (0, _PAPER_RGB), (-1, _INK_RGB)):
        corners = (left - grow, top - grow, max(left, right + grow), max(top, bottom + grow))
        draw.rectangle(corners, outline=colour)


def _badge(draw: ImageDraw.ImageDraw, middle: tuple[int, int], number: int) -> None:
    x, y = middle
    draw.ellipse((x - 11, y - 11, x + 11, y + 11), fill=_INK_RGB, outline=_PAPER_RGB, width=2)
    draw.text(middle, str(number), _PAPER_RGB, text_font(13), anchor="mm")


def _write_words(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], one: PatchEvidence, number: int
) -> None:
    left, top = corner
    font = text_font(_FONT_PX)
    _badge(draw, (left + 11, top + 13), number)
    colour = _ALARM_RGB if one.distance > one.threshold else _INK_RGB
    draw.text((left + 32, top + 6), f"distance {one.distance:.4g}", colour, font, anchor="lt")
    middle = ((one.box[0] + one.box[2]) // 2, (one.box[1] + one.box[3]) // 2)
    normal = one.normal_box
    there = ((normal[0] + normal[2]) // 2, (normal[1] + normal[3]) // 2)
    lines = [
        (f"{one.distance / one.threshold:.2f} times the pixel threshold", _FAINT_RGB),
        (f"here at y {middle[0]}, x {middle[1]} px of the photograph", _FAINT_RGB),
        ("nearest normal patch:", _FAINT_RGB),
        (one.normal_image, _INK_RGB),
        (f"at y {there[0]}, x {there[1]} px of the input", _FAINT_RGB),
    ]
    for place, (line, colour) in enumerate(lines):
        spot = (left, top + 38 + place * (_FONT_PX + 9))
        draw.text(spot, shorten(line, font, _WORDS_PX), colour, font, anchor="lt")
