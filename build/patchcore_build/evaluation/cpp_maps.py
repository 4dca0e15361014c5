"""Scores and maps that patchcore_infer wrote -> the lines img_auc and pixel_auc.

    python -m patchcore_build.evaluation.cpp_maps ARTIFACT DATASET CATEGORY SCORES MAPS

run_infer_cpp.sh calls it. Pixels are compared in input
geometry, as patchcore-build evaluate does by default; an image without a usable mask is left out
of pixel_auc and named.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_build.data.dataset import TestImage, list_test_images, read_mask
from patchcore_build.errors import DatasetError
from patchcore_build.evaluation.metrics import auroc
from patchcore_runtime import Artifact, PatchCoreError
from patchcore_runtime.image.preprocess import preprocess


def main(arguments: Sequence[str]) -> int:
    """Print both lines; returns the exit code."""
    artifact_folder, dataset, category, scores, maps = arguments
    try:
        artifact = Artifact.open(artifact_folder, verify=False)
        listed = list_test_images(Path(dataset), category)
        rows = [json.loads(line) for line in Path(scores).read_text().splitlines()]
        by_path = {Path(row["image"]).resolve(): row["score"] for row in rows}
        found = [(image, by_path[image.path.resolve()]) for image in listed]
        print(f"img_auc: {auroc(_of(found, False), _of(found, True)):.6f}")
        normal, defect = _pixels(artifact, listed, Path(dataset) / category / "test", Path(maps))
        print(f"pixel_auc: {auroc(normal, defect):.6f}")
    except KeyError as error:
        print(f"{scores}: {error.args[0]}: no score; run it again with NEED_PREPROCESS y")
        return 1
    except (PatchCoreError, OSError, ValueError) as error:
        print(error)
        return 1
    return 0


def _of(found: Sequence[tuple[TestImage, float]], anomalous: bool) -> NDArray[np.float64]:
    return np.array([score for image, score in found if image.is_anomalous == anomalous])


def _pixels(
    artifact: Artifact, listed: Sequence[TestImage], root: Path, maps: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Map values outside and inside of the marked defects, in grey levels of the 16-bit maps."""
    settings = artifact.manifest.preprocess
    normal, defect = [], []
    for image in listed:
        name = image.path.relative_to(root)
        stored = np.asarray(Image.open(maps / f"{name.as_posix()}.map.png")).astype(np.float32)
        try:
            placement = preprocess(image.path, settings)[1]
            mask = read_mask(image, placement, (settings.height, settings.width))
        except DatasetError as error:
            print(f"left out of pixel_auc: {error}", file=sys.stderr)
            continue
        normal.append(stored[~mask])
        defect.append(stored[mask])
    return np.concatenate(normal), np.concatenate(defect)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
