"""Laws of evaluation: figures are the runtime's scores, problems are named and never silent."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from artifact_factory import PHOTO_SIZE, striped_photo
from patchcore_build.errors import DatasetError
from patchcore_build.evaluate import evaluate
from patchcore_runtime import Detector, ImageError

BOX = (30, 50, 50, 80)  # rows 30 to 50, columns 50 to 80 of the photograph


@pytest.fixture(scope="module")
def detector(tiny_artifact):
    return Detector.load(tiny_artifact, threads=1)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def marked(seed):
    photo = striped_photo(seed)
    photo[BOX[0] : BOX[2], BOX[1] : BOX[3]] = (250, 20, 250)
    return photo


def write_mask(root, name, *, size=PHOTO_SIZE, value=255):
    mask = np.zeros(size, np.uint8)
    mask[BOX[0] : BOX[2], BOX[1] : BOX[3]] = value
    return save(root / "part" / "ground_truth" / "dent" / f"{name}_mask.png", mask)


def write_test_set(root, *, good=3, bad=3, masks=3):
    for number in range(good):
        save(root / "part" / "test" / "good" / f"{number:03}.png", striped_photo(100 + number))
    for number in range(bad):
        save(root / "part" / "test" / "dent" / f"{number:03}.png", marked(200 + number))
    for number in range(masks):
        write_mask(root, f"{number:03}")
    return root


def test_scores_are_those_of_the_detector_in_the_order_of_names(tmp_path, detector):
    root = write_test_set(tmp_path)
    result = evaluate(detector, root, "part")
    names = [f"{kind}/{number:03}.png" for kind in ("dent", "good") for number in range(3)]
    assert [image.name for image in result.images] == names
    for image in result.images:
        alone = detector.predict(root / "part" / "test" / image.name)
        assert image.score == alone.score
        assert image.is_flagged == alone.is_anomalous
        assert image.is_anomalous == image.name.startswith("dent/")
        assert image.defect == image.name.split("/")[0]


def test_figures_equal_scikit_learn_on_scores_and_maps(tmp_path, detector):
    visited = []
    result = evaluate(
        detector, write_test_set(tmp_path), "part", visit=lambda *seen: visited.append(seen)
    )
    labels = [image.is_anomalous for image in result.images]
    scores = [image.score for image in result.images]
    assert result.image_auroc == pytest.approx(roc_auc_score(labels, scores))
    maps = np.stack([seen[1].anomaly_map for seen in visited])
    masks = np.stack([seen[2] for seen in visited])
    assert result.pixel_auroc == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))
    assert result.pixel_auroc > 0.9
    threshold = detector.manifest.calibration.pixel_threshold
    good = (maps[3:] > threshold).any(axis=(1, 2)).mean()
    assert result.pixel_share_flagged_good == pytest.approx(good)
    counts = result.image_confusion
    flagged = sum(image.is_flagged for image in result.images)
    assert counts.true_positives + counts.false_positives == flagged
    assert result.problems == ()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "001_mask.png").unlink(), r"dent/001\.png: no mask found"),
        (lambda root: save(root / "001_mask.png", np.zeros(PHOTO_SIZE, np.uint8)), r"empty mask"),
        (lambda root: save(root / "001_mask.png", np.ones((5, 9), np.uint8)), r"001_mask\.png"),
        (lambda root: (root / "001_mask.png").write_bytes(b"x"), r"not a readable picture"),
    ],
)
def test_a_mask_that_cannot_be_used_costs_the_pixels_only(tmp_path, detector, spoil, message):
    root = write_test_set(tmp_path)
    whole = evaluate(detector, root, "part")
    spoil(root / "part" / "ground_truth" / "dent")
    visited = []
    result = evaluate(detector, root, "part", visit=lambda *seen: visited.append(seen[2]))
    assert len(result.problems) == 1
    assert re.search(message, result.problems[0])
    assert "001" in result.problems[0]
    assert result.image_auroc == whole.image_auroc
    assert result.images == whole.images
    assert result.pixel_auroc is not None
    assert [mask is None for mask in visited] == [False, True, False, False, False, False]


def test_without_defects_image_figures_do_not_exist_and_it_is_said(tmp_path, detector):
    result = evaluate(detector, write_test_set(tmp_path, bad=0, masks=0), "part")
    assert result.image_auroc is None
    assert result.pixel_auroc is None
    assert result.image_best_f1 is None
    assert len(result.problems) == 2
    assert "no defects" in result.problems[0]
    assert "no usable masks" in result.problems[1]
    assert result.image_confusion.true_positives == 0


def test_without_good_pictures_the_image_figures_do_not_exist_but_pixels_do(tmp_path, detector):
    result = evaluate(detector, write_test_set(tmp_path, good=0), "part")
    assert result.image_auroc is None
    assert result.pixel_auroc is not None
    assert result.pixel_share_flagged_good is None
    assert len(result.problems) == 1
    assert "no good pictures" in result.problems[0]


def test_without_masks_only_the_pixel_figure_is_missing(tmp_path, detector):
    result = evaluate(detector, write_test_set(tmp_path, masks=0), "part")
    assert result.image_auroc is not None
    assert result.pixel_auroc is None
    assert len(result.problems) == 4


def test_a_missing_test_folder_and_an_unreadable_picture_are_refused_by_name(tmp_path, detector):
    with pytest.raises(DatasetError, match=r"found nothing;"):
        evaluate(detector, tmp_path, "nothing")
    root = write_test_set(tmp_path)
    with pytest.raises(DatasetError, match=r"no category 'nothing' .* here: part;"):
        evaluate(detector, root, "nothing")
    (root / "part" / "test" / "good" / "001.png").write_bytes(b"x")
    with pytest.raises(ImageError, match=r"good.001\.png: not a readable picture"):
        evaluate(detector, root, "part")


def test_the_result_is_plain_json_and_counts_up_to_the_last_picture(tmp_path, detector):
    told = []
    result = evaluate(
        detector, write_test_set(tmp_path), "part", progress=lambda *step: told.append(step)
    )
    assert told == [(done, 6) for done in range(1, 7)]
    again = json.loads(json.dumps(result.to_dict()))
    assert again["image_auroc"] == result.image_auroc
    assert len(again["images"]) == 6


def test_masks_of_a_cropping_artifact_are_cropped_alike(tmp_path, cropped_artifact):
    detector = Detector.load(cropped_artifact, threads=1)
    result = evaluate(detector, write_test_set(tmp_path), "part")
    assert result.problems == ()
    assert result.pixel_auroc > 0.9
