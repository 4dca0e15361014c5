"""The C++ runner looks where the Python runtime looks, to the bit, and refuses the same masks."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from artifact_factory import make_artifact, striped_photo, tiny_config, write_sums
from cpp_binary import needs_binary
from cpp_runs import assert_same, maps_of_cpp, pythons_rows, rows_of, run
from masks import write_mask
from patchcore_runtime import Detector, PatchCoreError

pytestmark = needs_binary


@pytest.fixture(scope="module")
def ragged_mask(tmp_path_factory):
    """Noise in blocks of three pixels: many cells are about half white."""
    rng = np.random.default_rng(4)
    blocks = np.kron(rng.random((27, 40)) < 0.6, np.ones((3, 3), bool))[:80]
    path = tmp_path_factory.mktemp("ragged") / "mask.png"
    Image.fromarray(blocks).save(path)
    return path


@pytest.fixture(scope="module", params=["full-frame", "paper", "modelzoo"])
def ragged_artifact(request, tmp_path_factory, photos, ragged_mask):
    folder = tmp_path_factory.mktemp("ragged") / request.param
    return make_artifact(folder, photos, tiny_config(request.param), roi=ragged_mask)


def test_a_region_gets_the_same_scores_peaks_and_zeros_in_both(
    ragged_artifact, photos, tmp_path, capsys
):
    images = sorted(photos.iterdir())
    detector = Detector.load(ragged_artifact)
    found = maps_of_cpp(ragged_artifact, images, tmp_path / "maps", capsys)
    for image, stored, unit in found:
        expected = detector.predict(image).anomaly_map
        assert np.abs(stored - expected).max() <= unit
        assert (stored[~detector.region.pixels] == 0).all()
        assert (stored[detector.region.pixels] > 0).mean() > 0.99
    assert run(ragged_artifact, "--selftest")[0] == 0


@pytest.mark.parametrize("size", [(80, 120), (160, 240), (53, 79), (41, 61)])
def test_a_mask_at_load_is_taken_alike_in_both(size, cropped_artifact, photos, tmp_path, capsys):
    rng = np.random.default_rng(sum(size))
    mask = np.kron(rng.random((6, 9)) < 0.5, np.ones((30, 30), bool))[: size[0], : size[1]]
    Image.fromarray(mask).save(tmp_path / "mask.png")
    images = sorted(photos.iterdir())
    options = ("--roi", tmp_path / "mask.png")
    code, stdout, stderr = run(cropped_artifact, *images, *options)
    assert code == 0, stderr
    assert_same(rows_of(stdout), pythons_rows(cropped_artifact, images, capsys, *options))


def spoilt_files(path):
    """Name -> writer of a roi.png or mask that must be refused."""
    good = np.asarray(Image.open(path)).copy()
    grey, lone, empty = good.copy(), good.copy(), np.zeros_like(good)
    grey[1, 2] = 7
    lone[0, 0] = 255 - lone[0, 0]
    arrays = {"grey": grey, "lone": lone, "empty": empty, "cut": good[8:], "one": empty + 255}
    return {name: Image.fromarray(array) for name, array in arrays.items()}


def refusals(artifact, image, **options):
    """What Python says, and what C++ says."""
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    code, stdout, stderr = run(artifact, image, *flags)
    assert (code, stdout) == (1, "")
    with pytest.raises(PatchCoreError) as caught:
        Detector.load(artifact, threads=1, **options).predict(image)
    return str(caught.value), stderr.removeprefix("patchcore_infer: ").rstrip("\n")


@pytest.mark.parametrize("name", ["grey", "lone", "empty", "cut"])
def test_a_damaged_roi_png_is_refused_in_the_same_words(name, photos, tmp_path):
    mask = write_mask(tmp_path / "mask.png")
    artifact = make_artifact(tmp_path / "artifact", photos, tiny_config(), roi=mask)
    image = photos / "000.png"
    spoilt_files(artifact / "roi.png")[name].save(artifact / "roi.png")
    ours, theirs = refusals(artifact, image)  # the sum
    assert ours == theirs
    write_sums(artifact)
    ours, theirs = refusals(artifact, image)
    assert ours == theirs
    assert "roi.png: expected " in ours
    (artifact / "roi.png").unlink()
    ours, theirs = refusals(artifact, image)
    assert "roi.png" in ours
    assert "roi.png" in theirs


@pytest.mark.parametrize("name", ["grey", "empty", "cut", "one"])
def test_a_mask_that_does_not_fit_is_refused_in_the_same_words(name, photos, tmp_path):
    mask = write_mask(tmp_path / "mask.png")
    artifact = make_artifact(tmp_path / "artifact", photos, tiny_config(), roi=mask)
    spoilt_files(mask)[name].save(tmp_path / "spoilt.png")
    ours, theirs = refusals(artifact, photos / "000.png", roi=tmp_path / "spoilt.png")
    assert ours == theirs
    assert ours.startswith(str(tmp_path / "spoilt.png"))


def test_a_manifest_that_says_mask_without_a_file_is_refused_by_both(own_artifact, photos):
    path = own_artifact / "manifest.json"
    document = json.loads(path.read_text())
    document["region"]["kind"] = "mask"
    path.write_text(json.dumps(document))
    write_sums(own_artifact)
    ours, theirs = refusals(own_artifact, photos / "000.png")
    assert "roi.png is not listed" in ours
    assert ours == theirs


def test_the_self_test_takes_no_mask(tiny_artifact):
    code, _, stderr = run(tiny_artifact, "--selftest", "--roi", "mask.png")
    assert (code, "--roi: not allowed with --selftest" in stderr) == (2, True)


def test_an_anomaly_outside_of_the_region_is_no_anomaly(photos, tmp_path):
    mask = write_mask(tmp_path / "mask.png", (30, 30, 50, 80))
    artifact = make_artifact(tmp_path / "artifact", photos, tiny_config(), roi=mask)
    images = shutil.copytree(photos, tmp_path / "photos")
    spoilt = striped_photo(0)
    spoilt[:8] = 255
    Image.fromarray(spoilt).save(images / "000.png")
    before, after = (rows_of(run(artifact, folder / "000.png")[1]) for folder in (photos, images))
    assert before[0]["score"] == after[0]["score"]
