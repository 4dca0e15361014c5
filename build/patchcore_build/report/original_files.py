"""Files that the MindSpore Models PatchCore writes: index of the data set, sample images.

OUTPUT/CATEGORY_train.json, CATEGORY_test.json: {"0": {"name": "000", "img_type": "good"}, ...}.
OUTPUT/sample/TYPE_NAME.jpg is the input that the network saw. _amap.jpg (heat map),
_amap_on_img.jpg (heat on the grey input) and _gt.jpg (truth, if it is usable) have its geometry.
The original wrote the index into the data set. It stretched each map between its own minimum and
maximum, so that good parts glow. Here the data set is never written to, and every map is coloured
on the artifact's one scale.
"""

import contextlib
import errno
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_build.data.dataset import Dataset, TestImage
from patchcore_build.errors import DatasetError, OutputError
from patchcore_build.evaluation.evaluate import Visitor
from patchcore_runtime.detector import Detector
from patchcore_runtime.explain.heatmap import colorize, overlay
from patchcore_runtime.files.whole import written_together
from patchcore_runtime.image.preprocess import preprocess
from patchcore_runtime.result import Result

SAMPLE = "sample"
_PARTS = ("", "_amap", "_amap_on_img", "_gt")
_QUALITY = 92


@contextlib.contextmanager
def original_files(
    folder: Path, detector: Detector, dataset: Dataset, category: str
) -> Iterator[Visitor]:
    """Collect sample images during an evaluation; put all files in place when it ends well.

    Files of the same names are replaced, others are left alone. Without training images, no
    CATEGORY_train.json is written.

    Args:
        folder: The output folder, new or existing, outside of the category's own folders.
        detector: The artifact under test.
        dataset: The images.
        category: Which of them.

    Yields:
        The visitor to give to `evaluate`.

    Raises:
        OutputError: the folder is inside of the data set or cannot be written. Whatever fails, no
            new file or folder remains.
        DatasetError: no test images.
    """
    train, test = _listings(dataset, category)
    _refuse_dataset(folder, {dataset.root / category, *(image.path.parent for image in test)})
    names = [f"{category}_{kind}.json" for kind in ("train", "test")]
    _refuse_places(folder, names)
    with contextlib.ExitStack() as stack:
        with _reported(folder):
            aside = stack.enter_context(written_together(folder))
            (aside / SAMPLE).mkdir()
            for kind, entries in (("train", train), ("test", [_entry(image) for image in test])):
                if entries:
                    _write_index(aside / f"{category}_{kind}.json", entries)
        yield _Samples(aside / SAMPLE, detector).visit
        with _reported(folder):
            stack.close()  # what the evaluation itself raises passes by, and nothing is kept


class _Samples:
    """Writes four images for each one visited."""

    def __init__(self, folder: Path, detector: Detector) -> None:
        self._folder = folder
        self._settings = detector.manifest.preprocess
        self._scale = detector.heatmap_scale
        self._used: set[str] = set()

    def visit(self, image: TestImage, result: Result, mask: NDArray[np.bool_] | None) -> None:
        photo, _ = preprocess(image.path, self._settings)
        samples = [
            photo,
            colorize(result.anomaly_map, self._scale),
            overlay(photo, result.anomaly_map, self._scale),
        ]
        if mask is not None:
            samples.append(mask.astype(np.uint8) * np.uint8(255))
        with _reported(self._folder.parent.parent):
            for name, sample in zip(self._names(image), samples, strict=False):
                Image.fromarray(sample).save(self._folder / name, quality=_QUALITY)

    def _names(self, image: TestImage) -> list[str]:
        """TYPE_NAME and its relatives; images of one name in several places get numbers."""
        number, base = 1, f"{image.defect}_{image.path.stem}"
        stem = base
        while self._used & set(names := [f"{stem}{part}.jpg" for part in _PARTS]):
            number += 1
            stem = f"{base}-{number}"
        self._used |= set(names)
        return names


def _listings(dataset: Dataset, category: str) -> tuple[list[dict[str, str]], list[TestImage]]:
    test = dataset.test_images(category)
    try:
        images: Sequence[Path] = dataset.training_images(category).images
    except DatasetError:  # a test set alone can be evaluated, too
        images = ()
    return [{"name": path.stem, "img_type": "good"} for path in images], test


def _entry(image: TestImage) -> dict[str, str]:
    return {"name": image.path.stem, "img_type": image.defect}


def _refuse_dataset(folder: Path, inside: set[Path]) -> None:
    place = folder.resolve()
    for images in sorted(path.resolve() for path in inside):
        if place.is_relative_to(images):
            raise OutputError(
                f"{folder}: expected a folder outside of the data set, got one in {images}; "
                "choose another --output"
            )


def _refuse_places(folder: Path, names: Sequence[str]) -> None:
    """Refuse, before the evaluation, a folder with the name of a file, and the reverse."""
    with _reported(folder):
        for path in (folder / name for name in names):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
        if (folder / SAMPLE).is_file():
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(folder / SAMPLE))


def _write_index(path: Path, entries: Sequence[dict[str, str]]) -> None:
    numbered = {str(number): entry for number, entry in enumerate(entries)}
    path.write_text(json.dumps(numbered, indent=4) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _reported(folder: Path) -> Iterator[None]:
    """Turn an error of the disk into one line."""
    try:
        yield
    except OSError as error:
        where = Path(error.filename).name if error.filename else SAMPLE
        raise OutputError(
            f"{folder}: {where} cannot be written ({error.strerror or error}); no samples were "
            "kept, choose another --output or free the disk"
        ) from error
