"""The README's image, from the demo: one defect of each kind, and where the detector sees it.

    python docs/make_demo_image.py out/demo docs/demo.png

Above the photograph, below it the heat map. Of each kind the median-scoring image is shown, so that
the image is neither the best nor the worst of the demo.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from patchcore_runtime import Detector
from patchcore_runtime.explain.heatmap import overlay, text_font
from patchcore_runtime.image.decode import read_image

SIDE_PX, GAP_PX, TITLE_PX, FONT_PX = 224, 6, 30, 17
INK_RGB, PAPER_RGB = (24, 24, 32), (255, 255, 255)


def main(demo: Path, target: Path) -> None:
    """Score the demo's test set and draw."""
    detector = Detector.load(demo / "artifact")
    kinds = sorted((demo / "data" / "brushed_plate" / "test").iterdir(), key=_good_first)
    size = (len(kinds) * (SIDE_PX + GAP_PX) - GAP_PX, TITLE_PX + 2 * (SIDE_PX + GAP_PX) - GAP_PX)
    sheet = Image.new("RGB", size, PAPER_RGB)
    draw = ImageDraw.Draw(sheet)
    for column, kind in enumerate(kinds):
        left = column * (SIDE_PX + GAP_PX)
        draw.text((left, 4), kind.name.replace("_", " "), INK_RGB, text_font(FONT_PX))
        for row, pixels in enumerate(_median(detector, kind)):
            tile = Image.fromarray(pixels).resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
            sheet.paste(tile, (left, TITLE_PX + row * (SIDE_PX + GAP_PX)))
    sheet.save(target, optimize=True)


def _good_first(folder: Path) -> tuple[bool, str]:
    return folder.name != "good", folder.name


def _median(detector: Detector, kind: Path) -> tuple[np.ndarray, np.ndarray]:
    """The photograph whose score is in the middle of its kind, and its heat map."""
    results = [(detector.predict(path), path) for path in sorted(kind.iterdir())]
    result, path = sorted(results, key=lambda pair: pair[0].score)[len(results) // 2]
    photograph = read_image(path)
    heat = overlay(np.asarray(photograph), result.map_on(photograph), detector.heatmap_scale)
    return np.asarray(photograph), heat


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
