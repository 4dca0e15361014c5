"""Laws of the region of interest: pixels outside it change no result inside it."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from artifact_factory import make_artifact, striped_photo, tiny_config, write_photos
from masks import write_mask
from patchcore_build.data.roi import fill_polygon, plan_region
from patchcore_build.evaluation.aupro import PixelScores
from patchcore_build.evaluation.evaluate import evaluate
from patchcore_runtime import Artifact, ArtifactError, Detector, ImageError
from patchcore_runtime.cli.main import main
from patchcore_runtime.image.region import Region, read_region
from patchcore_runtime.manifest.manifest import Preprocessing, RegionOfInterest
from patchcore_runtime.scoring.patch_scorer import PatchScorer
from patchcore_runtime.selftest import run_selftest

INPUT = Preprocessing(
    resize="stretch", resize_height=64, resize_width=96, filter="bilinear", height=64, width=96
)
CROPPED = dataclasses.replace(
    INPUT, resize="shorter_side", resize_height=78, resize_width=78, height=64, width=64
)
PHOTO = RegionOfInterest(kind="mask", photo_height=80, photo_width=120)


@pytest.fixture(scope="module")
def mask(tmp_path_factory):
    return write_mask(tmp_path_factory.mktemp("mask") / "mask.png")


@pytest.fixture(scope="module", params=["full-frame", "paper", "modelzoo"])
def masked_artifact(request, tmp_path_factory, photos, mask):
    folder = tmp_path_factory.mktemp("masked") / request.param
    return make_artifact(folder, photos, tiny_config(request.param), roi=mask)


@pytest.mark.parametrize("settings", [INPUT, CROPPED], ids=["whole", "cropped"])
def test_a_mask_is_resized_like_its_photograph_by_nearest_pixels(settings, mask):
    resized = (64, 96) if settings is INPUT else (78, 117)
    top, left = (resized[0] - settings.height) // 2, (resized[1] - settings.width) // 2
    region = read_region(mask, settings, PHOTO, patch_px=8)
    white = np.asarray(Image.open(mask)) == 255
    for y in range(settings.height):
        for x in range(settings.width):
            source = white[
                int((top + y + 0.5) * 80 / resized[0]), int((left + x + 0.5) * 120 / resized[1])
            ]
            counts = source and region.patches[y // 8, x // 8]
            assert region.pixels[y, x] == counts


@pytest.mark.parametrize(("marked", "counts"), [(31, False), (32, True)])
def test_a_patch_counts_from_half_of_its_cell_on(marked, counts):
    pixels = np.zeros((16, 16), np.bool_)
    pixels[:8, :8] = True
    pixels[8:, 8:].flat[:marked] = True
    region = Region.of(np.kron(np.eye(2), np.ones((8, 8))).astype(bool) & pixels, 8)
    assert region.patches.tolist() == [[True, False], [False, counts]]
    assert region.pixels.sum() == 64 + (marked if counts else 0)
    assert np.array_equal(
        Region.of(region.pixels, 8).pixels, region.pixels
    )  # nothing is lost twice


def test_the_bank_has_only_patches_of_the_region(masked_artifact):
    artifact = Artifact.open(masked_artifact)
    y, x = artifact.memory_bank.origins[:, 1:].T
    assert artifact.region.patches[y, x].all()
    assert 0 < artifact.region.share < 1


def test_a_defect_outside_changes_neither_score_nor_one_bit_of_the_map(
    masked_artifact, tiny_artifact, tmp_path
):
    # Two patches and more from the edge of the image: layer3 reaches as far.
    roi = write_mask(tmp_path / "middle.png", (30, 30, 50, 80))
    detector = Detector.load(masked_artifact, threads=1, roi=roi)
    photo = striped_photo(50)
    spoilt = photo.copy()
    spoilt[:8] = 255
    spoilt[-8:] = 255
    clean, changed = detector.predict(photo), detector.predict(spoilt)
    assert changed.score == clean.score
    assert np.array_equal(changed.anomaly_map, clean.anomaly_map)
    assert np.array_equal(changed.patch_distances, clean.patch_distances)
    whole = Detector.load(tiny_artifact, threads=1)  # sees it
    assert whole.predict(spoilt).score > 1.5 * whole.predict(photo).score


def test_the_map_is_zero_outside_and_a_mean_of_distances_inside(masked_artifact):
    detector = Detector.load(masked_artifact, threads=1)
    result = detector.predict(striped_photo(51))
    region = detector.region
    assert (result.anomaly_map[~region.pixels] == 0).all()
    inside = result.anomaly_map[region.pixels]
    levels = result.patch_distances[region.patches]
    if detector.manifest.scoring.image_score == "modelzoo":
        levels = levels**2
    assert inside.min() >= levels.min() * (1 - 1e-5)
    assert inside.max() <= levels.max() * (1 + 1e-5)


class FlatIndex:
    """An index with the same distance for every patch."""

    def nearest(self, layers):
        """Return distance 3 and row 0 everywhere."""
        shape = (1, *layers[0].shape[2:])
        return np.full(shape, 3, np.float32), np.zeros(shape, np.int64)


def test_equal_distances_give_a_flat_map_up_to_the_edge_of_the_region(masked_artifact):
    artifact = Artifact.open(masked_artifact)
    layout, region = artifact.manifest.layout, artifact.region
    scoring = dataclasses.replace(
        artifact.manifest.scoring, image_score="max", distance="euclidean"
    )
    scorer = PatchScorer(artifact.memory_bank, FlatIndex(), layout, scoring, region=region)
    layers = [np.zeros((1, *layer.shape), np.float32) for layer in layout.layers]
    flat = scorer.score(layers).anomaly_map
    assert flat[region.pixels] == pytest.approx(3, rel=1e-5)


def test_the_self_test_marks_its_defect_inside_and_holds(masked_artifact):
    artifact = Artifact.open(masked_artifact)
    artifact.verify()
    top, left, bottom, right = artifact.manifest.selftest.defect_box
    assert artifact.region.pixels[top:bottom, left:right].all()
    assert all(step.passed for step in run_selftest(artifact))


def test_a_region_of_the_whole_input_changes_nothing(tiny_artifact, photos, tmp_path):
    everything = write_mask(tmp_path / "all.png", (0, 0, 80, 120))
    artifact = make_artifact(tmp_path / "all", photos, tiny_config(), roi=everything)
    for name in ("memory_bank.bin", "selftest_input.png"):
        assert (artifact / name).read_bytes() == (tiny_artifact / name).read_bytes()
    ours, plain = (
        Detector.load(folder).predict(striped_photo(9)) for folder in (artifact, tiny_artifact)
    )
    assert ours.score == plain.score
    assert ours.anomaly_map == pytest.approx(plain.anomaly_map, rel=1e-5)


def test_a_mask_at_load_narrows_and_never_widens(masked_artifact, mask, tmp_path):
    same = Detector.load(masked_artifact, roi=mask)
    assert np.array_equal(same.region.pixels, Artifact.open(masked_artifact).region.pixels)
    smaller = Detector.load(
        masked_artifact, roi=write_mask(tmp_path / "less.png", (20, 30, 45, 60))
    )
    assert 0 < smaller.region.share < same.region.share
    photo = striped_photo(52)
    kept = smaller.region.patches
    both = [detector.predict(photo).patch_distances[kept] for detector in (smaller, same)]
    assert np.array_equal(*both)
    with pytest.raises(
        ImageError, match=r"more\.png: expected a region inside.*nothing was learned"
    ):
        Detector.load(masked_artifact, roi=write_mask(tmp_path / "more.png", (10, 30, 60, 80)))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: write_mask(path, (0, 0, 0, 0)), "got no patch of 8 x 8 input pixels"),
        (lambda path: write_mask(path, (0, 0, 3, 3)), "got no patch of 8 x 8 input pixels"),
        (lambda path: write_mask(path, size=(80, 80)), "aspect ratio.* 120 x 80 px, got 80 x 80"),
        (
            lambda path: Image.fromarray(striped_photo(0)).save(path),
            r"black \(0\) and white \(255\)",
        ),
        (lambda path: path.write_bytes(b"text"), "not a readable image"),
    ],
)
def test_an_image_that_is_not_a_matching_mask_is_refused_in_one_line(make, expected, tmp_path):
    make(tmp_path / "mask.png")
    with pytest.raises(ImageError, match=expected) as caught:
        read_region(tmp_path / "mask.png", INPUT, PHOTO, patch_px=8)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "mask.png"))


@pytest.mark.parametrize("off", [(80, 122), (80, 118), (160, 240), (41, 61)])
def test_a_mask_may_have_another_size_and_be_a_fiftieth_off_in_its_aspect(off, tmp_path):
    path = write_mask(tmp_path / "mask.png", (0, 0, 40, 40), size=off)
    assert read_region(path, INPUT, PHOTO, patch_px=8).share > 0


def test_the_photographs_are_those_of_the_median_aspect():
    kind, region = plan_region(None, INPUT, [(80, 80), (80, 120), (160, 480)], patch_px=8)
    assert (kind.kind, kind.photo_height, kind.photo_width, region) == ("whole", 80, 120, None)


def test_a_polygon_is_drawn_in_fractions_of_the_photograph(tmp_path):
    text = "0.25,0.25 0.75,0.25 0.75,0.75 0.25,0.75"
    drawn = write_mask(tmp_path / "mask.png", (20, 30, 60, 90))
    for settings in (INPUT, CROPPED):
        _, region = plan_region(text, settings, [(80, 120)], patch_px=8)
        assert np.array_equal(region.pixels, read_region(drawn, settings, PHOTO, patch_px=8).pixels)


def test_a_triangle_is_filled_up_to_its_sides():
    y, x = (np.arange(100) + 0.5) / 100, (np.arange(200) + 0.5) / 200
    inside = fill_polygon(np.array([[0, 0], [1, 0], [0, 1]]), y[:, None], x)
    assert np.array_equal(inside, x + y[:, None] < 1)


@pytest.mark.parametrize("text", ["0.1,0.1 0.9,0.9", "0,0 2,0 1,1", "0,0 0.001,0 0,0.001"])
def test_an_empty_polygon_is_refused(text):
    with pytest.raises(ImageError, match="--roi"):
        plan_region(text, INPUT, [(80, 120)], patch_px=8)


@pytest.mark.parametrize("spoil", ["size", "grey", "lone", "empty", "gone", "text"])
def test_a_damaged_roi_png_is_refused_by_name(spoil, photos, mask, tmp_path):
    artifact = make_artifact(tmp_path / "artifact", photos, tiny_config(), roi=mask)
    path = artifact / "roi.png"
    pixels = np.asarray(Image.open(path)).copy()
    if spoil == "size":
        pixels = pixels[8:]
    elif spoil == "grey":
        pixels[0, 0] = 128
    elif spoil == "lone":
        pixels[0, 0] = 255
    elif spoil == "empty":
        pixels[:] = 0
    Image.fromarray(pixels).save(path)
    if spoil == "text":
        path.write_bytes(b"text")
    if spoil == "gone":
        path.unlink()
    with pytest.raises(ArtifactError, match=r"roi\.png"):
        Detector.load(artifact)
    with pytest.raises(ArtifactError, match=r"roi\.png"):
        Detector.load(artifact, verify=False)


def test_pixels_outside_are_in_no_pixel_metric():
    rng = np.random.default_rng(0)
    values, truth = rng.random((32, 40), np.float32), rng.random((32, 40)) < 0.2
    inside = np.zeros((32, 40), np.bool_)
    inside[4:20, 6:30] = True
    whole, part = PixelScores(values.size), PixelScores(values.size)
    whole.add(values[4:20, 6:30], truth[4:20, 6:30])
    part.add(values, truth, inside)
    assert part.measure(0.5) == whole.measure(0.5)


@pytest.mark.parametrize("resolution", ["input", "original"])
def test_an_evaluation_leaves_out_what_lies_outside(resolution, photos, mask, tmp_path):
    root = tmp_path / "data" / "stripes"
    for number, place in enumerate([(30, 40), (2, 2)]):  # one defect inside, one outside
        photo, truth = striped_photo(60 + number), np.zeros((80, 120), np.uint8)
        y, x = place
        photo[y : y + 12, x : x + 12] = 255
        truth[y : y + 12, x : x + 12] = 255
        for folder, drawn in (("test/spot", photo), ("ground_truth/spot", truth)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            name = f"{number}_mask.png" if folder.startswith("ground") else f"{number}.png"
            Image.fromarray(drawn).save(root / folder / name)
    write_photos(root / "test" / "good", 2)
    artifact = make_artifact(tmp_path / "artifact", photos, tiny_config(), roi=mask)
    detector = Detector.load(artifact)
    found = evaluate(detector, root.parent, "stripes", resolution=resolution)
    assert found.regions == 1
    assert found.region_share == detector.region.share
    assert [p for p in found.problems if "lies outside of the region of interest" in p]
    inside = Detector.load(artifact).predict(root / "test" / "spot" / "0.png")
    assert found.pixel_auroc > 0.9
    assert inside.score > max(image.score for image in found.images if not image.is_anomalous)


def test_the_command_line_takes_a_mask_and_refuses_it_in_one_line(
    tiny_artifact, photos, mask, tmp_path, capsys
):
    drawn = photos / "000.png"
    assert main(["score", str(tiny_artifact), str(drawn), "--roi", str(mask)]) == 0
    score = json.loads(capsys.readouterr().out)["score"]
    assert score == Detector.load(tiny_artifact, roi=mask).predict(drawn).score
    assert score <= Detector.load(tiny_artifact).predict(drawn).score
    assert main(["score", str(tiny_artifact), str(drawn), "--roi", str(tmp_path / "no.png")]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"patchcore-runtime: {tmp_path / 'no.png'}: no such file\n")
