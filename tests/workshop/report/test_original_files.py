"""Laws of the original's files: index and samples in the output folder, never in the data set."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from artifact_factory import PHOTO_SIZE, striped_photo
from patchcore_build.cli.main import main
from patchcore_build.data.dataset import open_dataset
from patchcore_build.errors import OutputError
from patchcore_build.evaluation.evaluate import evaluate
from patchcore_build.report.original_files import original_files
from patchcore_runtime import Detector
from patchcore_runtime.explain.heatmap import colorize


@pytest.fixture(scope="module")
def detector(tiny_artifact):
    return Detector.load(tiny_artifact, threads=1)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_dataset(root, *, train=3):
    category = root / "stripes"
    for number in range(train):
        save(category / "train" / "good" / f"{number:03}.png", striped_photo(number))
    for kind, count in (("crack", 1), ("dent", 2), ("good", 2)):
        for number in range(count):
            photo, mask = striped_photo(50 + number), np.zeros(PHOTO_SIZE, np.uint8)
            if kind != "good":
                photo[30:50, 50:80], mask[30:50, 50:80] = (250, 20, 250), 255
                save(category / "ground_truth" / kind / f"{number:03}_mask.png", mask)
            save(category / "test" / kind / f"{number:03}.png", photo)
    return root


def snapshot(root):
    return {
        path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def run(detector, root, folder):
    with original_files(folder, detector, open_dataset(root), "stripes") as visit:
        return evaluate(detector, root, "stripes", visit=visit)


def read(path):
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def test_the_index_has_the_originals_form_and_order(tmp_path, detector):
    run(detector, write_dataset(tmp_path / "data"), tmp_path / "out")
    train = json.loads((tmp_path / "out" / "stripes_train.json").read_text())
    test = json.loads((tmp_path / "out" / "stripes_test.json").read_text())
    assert train == {str(n): {"name": f"{n:03}", "img_type": "good"} for n in range(3)}
    kinds = ["crack", "dent", "dent", "good", "good"]
    assert list(test) == [str(n) for n in range(5)]
    assert [entry["img_type"] for entry in test.values()] == kinds
    assert [entry["name"] for entry in test.values()] == ["000", "000", "001", "000", "001"]


def test_each_image_has_four_samples_in_the_inputs_geometry(tmp_path, detector):
    run(detector, write_dataset(tmp_path / "data"), tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out" / "sample").iterdir())
    stems = ["crack_000", "dent_000", "dent_001", "good_000", "good_001"]
    parts = ("", "_amap", "_amap_on_img", "_gt")
    assert names == sorted(f"{stem}{part}.jpg" for stem in stems for part in parts)
    size = detector.manifest.preprocess
    for name in names:
        assert read(tmp_path / "out" / "sample" / name).shape[:2] == (size.height, size.width)
    truth = read(tmp_path / "out" / "sample" / "dent_000_gt.jpg")
    assert truth[30 * size.height // 80 + 3, 60 * size.width // 120] > 200
    assert truth[2, 2] < 50
    assert read(tmp_path / "out" / "sample" / "good_000_gt.jpg").max() < 50


def test_colours_are_those_of_the_artifacts_one_scale(tmp_path, detector):
    run(detector, write_dataset(tmp_path / "data"), tmp_path / "out")
    for name in ("dent/000", "good/000"):
        result = detector.predict(tmp_path / "data" / "stripes" / "test" / f"{name}.png")
        drawn = read(tmp_path / "out" / "sample" / f"{name.replace('/', '_')}_amap.jpg")
        expected = colorize(result.anomaly_map, detector.heatmap_scale).astype(int)
        assert np.abs(drawn - expected).mean() < 6


def test_nothing_is_written_into_the_data_set(tmp_path, detector):
    root = write_dataset(tmp_path / "data")
    before = snapshot(root)
    run(detector, root, tmp_path / "out")
    assert snapshot(root) == before
    for inside in ("stripes", "stripes/report", "stripes/test/good", "stripes/new/deep"):
        with pytest.raises(OutputError, match="outside of the data set"):
            run(detector, root, root / inside)
    assert snapshot(root) == before
    assert not (root / "stripes" / "report").exists()


def test_an_image_without_a_usable_mask_has_no_truth(tmp_path, detector):
    root = write_dataset(tmp_path / "data")
    (root / "stripes" / "ground_truth" / "dent" / "001_mask.png").unlink()
    run(detector, root, tmp_path / "out")
    assert not (tmp_path / "out" / "sample" / "dent_001_gt.jpg").exists()
    assert (tmp_path / "out" / "sample" / "dent_001_amap.jpg").exists()


def test_images_of_one_name_do_not_overwrite_each_other(tmp_path, detector):
    root = write_dataset(tmp_path / "data")
    save(root / "stripes" / "test" / "good" / "000.bmp", striped_photo(9))
    save(root / "stripes" / "test" / "good" / "001_amap.png", striped_photo(8))
    run(detector, root, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out" / "sample").glob("good_*")}
    assert len(names) == 4 * 4
    assert {"good_000-2.jpg", "good_001_amap-2.jpg"} <= names
    index = json.loads((tmp_path / "out" / "stripes_test.json").read_text())
    assert len(index) == 7


def test_a_test_set_without_training_images_has_no_training_index(tmp_path, detector):
    run(detector, write_dataset(tmp_path / "data", train=0), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").glob("*.json")] == ["stripes_test.json"]


def test_other_files_stay_and_older_ones_of_the_same_name_are_replaced(tmp_path, detector):
    (tmp_path / "out" / "sample").mkdir(parents=True)
    (tmp_path / "out" / "sample" / "mine.txt").write_text("mine")
    (tmp_path / "out" / "stripes_test.json").write_text("old")
    run(detector, write_dataset(tmp_path / "data"), tmp_path / "out")
    assert (tmp_path / "out" / "sample" / "mine.txt").read_text() == "mine"
    assert json.loads((tmp_path / "out" / "stripes_test.json").read_text())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "sample", "stripes_test.json", "stripes_train.json",
    }  # fmt: skip


def test_a_run_that_fails_leaves_nothing_behind(tmp_path, detector):
    root = write_dataset(tmp_path / "data")
    dataset = open_dataset(root)

    def fail(folder):
        with original_files(folder, detector, dataset, "stripes") as visit:
            image = dataset.test_images("stripes")[0]
            visit(image, detector.predict(image.path), None)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail(tmp_path / "new" / "deep")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with pytest.raises(RuntimeError, match="stop"):
        fail(tmp_path / "old")
    assert list((tmp_path / "old").iterdir()) == []


@pytest.mark.parametrize("place", ["sample/dent_000.jpg", "stripes_test.json"])
def test_a_folder_in_a_files_place_is_refused_and_nothing_is_half_written(
    tmp_path, detector, place
):
    root = write_dataset(tmp_path / "data")
    (tmp_path / "out" / place).mkdir(parents=True)
    with pytest.raises(OutputError, match=rf"{place.rpartition('/')[2]} cannot be written"):
        run(detector, root, tmp_path / "out")
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert left == []


def test_an_output_that_cannot_be_made_is_refused_before_anything_is_scored(tmp_path, detector):
    (tmp_path / "taken").write_text("a file")
    root = write_dataset(tmp_path / "data")
    with (
        pytest.raises(OutputError, match=r"taken.*cannot be written"),
        original_files(tmp_path / "taken", detector, open_dataset(root), "stripes"),
    ):
        pytest.fail("the block must not be entered")
    assert (tmp_path / "taken").read_text() == "a file"


def test_the_command_writes_report_samples_and_index_and_names_protocols(
    tmp_path, tiny_artifact, capfd
):
    root, out = write_dataset(tmp_path / "data"), tmp_path / "out"
    command = ["evaluate", str(tiny_artifact), "--dataset", str(root), "--output", str(out)]
    assert main([*command, "--resolution", "original"]) == 0
    printed, err = capfd.readouterr()
    assert err == ""
    assert "AUPRO (all images): " in printed
    assert "AUPRO (anomalous images only): " in printed
    assert "(original resolution)" in printed
    assert "segmentation F1" in printed
    assert sorted(path.name for path in out.iterdir()) == [
        "report.html", "report.json", "sample", "sheet.png", "stripes_test.json",
        "stripes_train.json",
    ]  # fmt: skip
    figures = json.loads((out / "report.json").read_text())
    assert f"{figures['aupro_005_all_images']:.4f} to FPR 0.05" in printed
    assert figures["resolution"] == "original"
    assert main(["evaluate", str(tiny_artifact), "--dataset", str(root), "--output",
                 str(root / "stripes" / "out")]) == 1  # fmt: skip
    assert "outside of the data set" in capfd.readouterr().err
