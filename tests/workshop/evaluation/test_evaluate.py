"""Laws of evaluation: figures are the runtime's scores, problems are named and never silent."""

import dataclasses
import json
import re

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from artifact_factory import PHOTO_SIZE, striped_photo
from patchcore_build.data.dataset import open_dataset
from patchcore_build.errors import DatasetError
from patchcore_build.evaluation.aupro import PixelScores
from patchcore_build.evaluation.evaluate import evaluate
from patchcore_build.evaluation.figures import ScoredImage, summarize
from patchcore_runtime import Detector, ImageError
from patchcore_runtime.errors import ArtifactError

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
        assert image.is_flagged == (alone.score > alone.threshold)
        assert image.is_anomalous == image.name.startswith("dent/")
        assert image.defect == image.name.split("/")[0]


def test_a_data_set_that_is_open_gives_the_figures_of_its_folder(tmp_path, detector):
    root = write_test_set(tmp_path)
    found, again = (evaluate(detector, source, "part") for source in (root, open_dataset(root)))
    assert dataclasses.replace(found, seconds={}) == dataclasses.replace(again, seconds={})


def test_a_map_that_only_reaches_the_pixel_threshold_flags_nothing(detector):
    calibration = detector.manifest.calibration
    threshold = calibration.pixel_threshold
    pixels = PixelScores(1).measure(threshold)
    for level, share in ((threshold, 0.0), (np.nextafter(threshold, np.inf), 1.0)):
        image = ScoredImage(
            name="a.png", defect="good", is_anomalous=False, score=0.0, map_maximum=level,
            is_flagged=False,
        )  # fmt: skip
        found = summarize("part", [image], pixels, [], calibration)
        assert found.pixel_share_flagged_good == share


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
        (lambda root: (root / "001_mask.png").write_bytes(b"x"), r"not a readable image"),
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


def test_without_good_images_the_image_figures_do_not_exist_but_pixels_do(tmp_path, detector):
    result = evaluate(detector, write_test_set(tmp_path, good=0), "part")
    assert result.image_auroc is None
    assert result.pixel_auroc is not None
    assert result.pixel_share_flagged_good is None
    assert len(result.problems) == 1
    assert "no good images" in result.problems[0]


def test_without_masks_only_the_pixel_figure_is_missing(tmp_path, detector):
    result = evaluate(detector, write_test_set(tmp_path, masks=0), "part")
    assert result.image_auroc is not None
    assert result.pixel_auroc is None
    assert len(result.problems) == 4


def test_a_missing_test_folder_and_an_unreadable_image_are_refused_by_name(tmp_path, detector):
    with pytest.raises(DatasetError, match=r"found nothing;"):
        evaluate(detector, tmp_path, "nothing")
    root = write_test_set(tmp_path)
    with pytest.raises(DatasetError, match=r"no category 'nothing' .* here: part;"):
        evaluate(detector, root, "nothing")
    (root / "part" / "test" / "good" / "001.png").write_bytes(b"x")
    with pytest.raises(ImageError, match=r"good.001\.png: not a readable image"):
        evaluate(detector, root, "part")


def test_the_result_is_plain_json_and_counts_up_to_the_last_image(tmp_path, detector):
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


def missing(figures, above=""):
    """Paths of what is None."""
    for name, value in figures.items():
        if value is None:
            yield above + name
        elif isinstance(value, dict):
            yield from missing(value, f"{above}{name}.")


@pytest.mark.parametrize(
    ("lacks", "count"),
    [({}, 0), ({"bad": 0, "masks": 0}, 15), ({"good": 0}, 7), ({"masks": 0}, 9)],
)
def test_every_figure_that_does_not_exist_has_a_reason_and_no_other_has(
    tmp_path, detector, lacks, count
):
    figures = evaluate(detector, write_test_set(tmp_path, **lacks), "part").to_dict()
    assert sorted(figures["reasons"]) == sorted(missing(figures))
    assert len(figures["reasons"]) == count
    assert all(figures["reasons"].values())
    json.dumps(figures, allow_nan=False)


def test_reasons_name_what_is_lacking(tmp_path, detector):
    no_bad = evaluate(detector, write_test_set(tmp_path / "a", bad=0, masks=0), "part").reasons
    assert no_bad["image_auroc"] == "no defects in the test set"
    assert no_bad["image_rates.true_positive_rate"] == "no defects in the test set"
    assert "masks" in no_bad["aupro_030_all_images"]
    assert "image_rates.false_positive_rate" not in no_bad
    no_good = evaluate(detector, write_test_set(tmp_path / "b", good=0), "part").reasons
    assert no_good["image_roc"] == "no good images in the test set"
    assert no_good["pixel_share_flagged_good"] == "no good images in the test set"
    assert "pixel_auroc" not in no_good


def test_masks_over_the_whole_image_leave_one_protocol_and_say_so(tmp_path, detector):
    root = write_test_set(tmp_path)
    for number in range(3):
        whole = np.full(PHOTO_SIZE, 255, np.uint8)
        save(root / "part" / "ground_truth" / "dent" / f"{number:03}_mask.png", whole)
    result = evaluate(detector, root, "part")
    assert result.aupro_030_all_images is not None
    assert result.aupro_030_anomalous_images_only is None
    assert sorted(result.reasons) == [
        "aupro_005_anomalous_images_only",
        "aupro_030_anomalous_images_only",
    ]
    assert set(result.reasons.values()) == {"no normal pixels beside the defects"}


def test_rates_and_precisions_are_those_of_scores_and_maps(tmp_path, detector):
    visited = []
    root = write_test_set(tmp_path)
    result = evaluate(detector, root, "part", visit=lambda *seen: visited.append(seen))
    labels = np.array([image.is_anomalous for image in result.images])
    scores = np.array([image.score for image in result.images])
    flagged = np.array([image.is_flagged for image in result.images])
    assert result.image_average_precision == pytest.approx(average_precision_score(labels, scores))
    assert result.image_rates.true_positive_rate == flagged[labels].mean()
    assert result.image_rates.false_positive_rate == flagged[~labels].mean()
    assert result.image_rates.threshold == detector.manifest.calibration.image_threshold
    masks = np.stack([seen[2] for seen in visited]).ravel()
    values = np.stack([seen[1].anomaly_map for seen in visited]).ravel()
    above = values > detector.manifest.calibration.pixel_threshold
    assert result.pixel_rates.f1 == pytest.approx(f1_score(masks, above))
    assert result.pixel_rates.true_positive_rate == pytest.approx(above[masks].mean())
    assert result.pixel_average_precision == pytest.approx(average_precision_score(masks, values))
    assert result.pixel_best_f1.f1 >= result.pixel_rates.f1
    assert 0 < result.aupro_005_all_images < result.aupro_030_all_images <= 1
    assert result.regions == 3
    assert result.resolution == "input"
    assert [curve.protocol for curve in result.pixel_pro] == ["all images", "anomalous images only"]


def test_original_resolution_counts_the_pixels_of_the_photographs(tmp_path, detector):
    root = write_test_set(tmp_path)
    small = np.ascontiguousarray(striped_photo(7)[:70, :100])  # sizes may differ
    save(root / "part" / "test" / "good" / "small.png", small)
    visited = []
    result = evaluate(
        detector, root, "part", resolution="original", visit=lambda *seen: visited.append(seen)
    )
    truth = np.zeros(PHOTO_SIZE, np.bool_)
    truth[BOX[0] : BOX[2], BOX[1] : BOX[3]] = True
    labels, values = [], []
    for image, seen, mask in visited:
        with Image.open(image.path) as photo:
            values.append(seen.map_on(photo).ravel())
            clean = np.zeros((photo.height, photo.width), np.bool_)
        labels.append((truth if image.is_anomalous else clean).ravel())
        assert mask.shape == seen.anomaly_map.shape  # visitors see the input's geometry
    assert result.pixel_auroc == pytest.approx(
        roc_auc_score(np.concatenate(labels), np.concatenate(values))
    )
    assert result.resolution == "original"
    assert result.pixel_auroc != evaluate(detector, root, "part").pixel_auroc
    assert result.image_auroc == evaluate(detector, root, "part").image_auroc


def test_a_defect_that_the_crop_hides_is_missed_at_original_resolution(tmp_path, cropped_artifact):
    detector = Detector.load(cropped_artifact, threads=1)
    root = write_test_set(tmp_path)
    hidden = np.zeros(PHOTO_SIZE, np.uint8)
    hidden[:, :4] = 255
    save(root / "part" / "ground_truth" / "dent" / "001_mask.png", hidden)
    shown = evaluate(detector, root, "part")
    whole = evaluate(detector, root, "part", resolution="original")
    assert (shown.regions, whole.regions) == (2, 3)
    assert whole.aupro_030_all_images < shown.aupro_030_all_images
    for result in (shown, whole):
        assert len(result.problems) == 1
        assert "001_mask.png: the crop hides the whole defect" in result.problems[0]


def test_a_defect_too_small_for_the_input_is_named_and_counts_at_original_resolution(
    tmp_path, detector
):
    root = write_test_set(tmp_path)
    for row in range(PHOTO_SIZE[0]):  # a column and row that the nearest neighbour passes over
        speck = np.zeros(PHOTO_SIZE, np.uint8)
        speck[row, 60] = 255
        save(root / "part" / "ground_truth" / "dent" / "001_mask.png", speck)
        result = evaluate(detector, root, "part")
        if result.regions == 2:
            break
    (problem,) = result.problems
    assert "001_mask.png: the defect is too small" in problem
    whole = evaluate(detector, root, "part", resolution="original")
    assert (whole.regions, whole.problems) == (3, ())


@pytest.mark.parametrize(
    ("overflow", "got"),
    [
        ({"score": float("nan")}, "got nan"),
        ({"score": float("inf")}, "got inf"),
        ({"anomaly_map": np.full((64, 96), np.inf, np.float32)}, "values up to inf"),
    ],
)
def test_a_score_or_map_that_is_not_finite_is_refused_by_name(tmp_path, detector, overflow, got):
    class Overflown:
        manifest, region = detector.manifest, detector.region

        def predict(self, path):
            return dataclasses.replace(detector.predict(path), **overflow)

    with pytest.raises(ArtifactError, match=rf"000\.png: expected a finite score and map.*{got}"):
        evaluate(Overflown(), write_test_set(tmp_path), "part")


def test_a_name_in_two_formats_is_named_and_a_mask_for_two_is_for_none(tmp_path, detector):
    root = write_test_set(tmp_path)
    before = evaluate(detector, root, "part")
    save(root / "part" / "test" / "good" / "002.bmp", striped_photo(102))
    both_good = evaluate(detector, root, "part")
    assert len(both_good.images) == 7
    (problem,) = both_good.problems
    assert re.search(r"good.002: 2 images of one name \(002\.bmp, 002\.png\)", problem)
    assert both_good.regions == before.regions
    save(root / "part" / "test" / "dent" / "001.bmp", marked(201))
    result = evaluate(detector, root, "part")
    assert len(result.images) == 8
    assert result.regions == before.regions - 1
    assert [re.sub(r".*(dent|good).", "", line)[:8] for line in result.problems] == [
        "001: 2 i", "002: 2 i", "001.bmp:", "001.png:",
    ]  # fmt: skip
    assert "001_mask.png, which 2 images share" in result.problems[2]


def test_times_are_told_and_do_not_make_evaluations_differ(tmp_path, detector):
    root = write_test_set(tmp_path)
    first, second = (evaluate(detector, root, "part") for _ in range(2))
    assert list(first.seconds) == ["scoring", "metrics"]
    assert all(seconds > 0 for seconds in first.seconds.values())
    assert first == second


def test_a_good_image_that_the_gate_stops_is_named_and_not_counted(tmp_path, detector):
    root = write_test_set(tmp_path)
    Image.fromarray(np.zeros((80, 120, 3), np.uint8)).save(root / "part/test/good/000.png")
    result = evaluate(detector, root, "part")
    (problem,) = [line for line in result.problems if "not_this_part" in line]
    assert problem.startswith("good/000.png: this good image is not_this_part (most of what")
    (image,) = [one for one in result.images if one.name == "good/000.png"]
    assert image.is_flagged == (image.score > detector.manifest.calibration.image_threshold)
