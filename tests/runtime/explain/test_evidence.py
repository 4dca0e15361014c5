"""Laws of explanations: strange patches lie apart and refer to the images of their nearest rows."""

import json

import numpy as np
import pytest
from PIL import Image

from artifact_factory import make_artifact, striped_photo, tiny_config, write_sums
from masks import write_mask
from patchcore_runtime import ArtifactError, Detector
from patchcore_runtime.artifact.folder import MEMORY_BANK
from patchcore_runtime.bank.memory_bank import bank_sections, read_memory_bank
from patchcore_runtime.cli.main import main
from patchcore_runtime.explain.evidence import choose_patches, on_photograph, patch_box
from patchcore_runtime.explain.sheet import explain_sheet
from patchcore_runtime.image.decode import read_image
from patchcore_runtime.image.placement import Placement


@pytest.fixture
def spoilt_photo(tmp_path):
    """Draw a good image with two dark spots far apart."""
    pixels = striped_photo(3)
    pixels[8:24, 10:26] = 0
    pixels[50:70, 90:110] = 255
    path = tmp_path / "spoilt.png"
    Image.fromarray(pixels).save(path)
    return path


def test_each_region_gives_its_farthest_patch_first():
    distances = np.full((20, 30), 1.0, np.float32)
    distances[2:6, 3:9] = 5
    distances[4, 4] = 9
    distances[12:18, 20:28] = 6
    distances[15, 27] = 7
    assert choose_patches(distances, 4.0, 2) == [(4, 4), (15, 27)]


@pytest.mark.parametrize("top", [1, 3, 6, 500])
def test_patches_of_one_region_lie_apart_and_come_in_order(top):
    rng = np.random.default_rng(0)
    distances = rng.uniform(1, 2, (20, 30)).astype(np.float32)
    picked = choose_patches(distances, 0.5, top)  # everything is one region
    assert picked[0] == np.unravel_index(distances.argmax(), distances.shape)
    assert len(set(picked)) == len(picked) <= top
    assert len(picked) == min(top, len(choose_patches(distances, 0.5, 10**6)))
    values = [distances[place] for place in picked]
    assert values == sorted(values, reverse=True)
    for one, other in ((a, b) for a in picked for b in picked if a != b):
        assert np.abs(np.subtract(one, other)).max() >= 5


def test_boxes_cover_the_cells_that_a_patch_averages(tiny_artifact):
    manifest = Detector.load(tiny_artifact).manifest  # 64 x 96
    assert patch_box((3, 5), manifest) == (16, 32, 40, 56)
    assert patch_box((0, 11), manifest) == (0, 80, 16, 96)
    place = Placement(
        photo_height=300, photo_width=400, resized_height=100, resized_width=200, top=10, left=20
    )
    assert on_photograph((0, 0, 30, 41), place) == (30, 40, 120, 122)


def test_a_box_on_the_photograph_grows_to_whole_pixels_and_stays_inside():
    place = Placement(
        photo_height=250, photo_width=310, resized_height=100, resized_width=200, top=10, left=21
    )
    # 2.5 and 1.55 pixels of the photograph for each of the input.
    assert on_photograph((1, 1, 31, 41), place) == (27, 34, 103, 97)
    assert on_photograph((80, 160, 95, 185), place) == (225, 280, 250, 310)


def test_an_explanation_names_where_the_nearest_row_comes_from(tiny_artifact, spoilt_photo):
    detector = Detector.load(tiny_artifact)
    result = detector.predict(spoilt_photo)
    evidence = detector.explain(result, top=3)
    assert [one.distance for one in evidence] == sorted(
        (one.distance for one in evidence), reverse=True
    )
    bank, names = detector.artifact.memory_bank, detector.manifest.training.images
    for one in evidence:
        assert one.distance == result.patch_distances[one.patch]
        assert one.row == result.nearest_rows[one.patch]
        assert (one.normal_number, *one.normal_patch) == tuple(bank.origins[one.row])
        assert one.normal_image == names[one.normal_number]
        assert one.normal_box == patch_box(one.normal_patch, detector.manifest)
    # Both spots are among the first two, as boxes on the photograph.
    middles = sorted(
        ((one.box[0] + one.box[2]) / 2, (one.box[1] + one.box[3]) / 2) for one in evidence[:2]
    )
    assert np.abs(np.subtract(middles, [(16, 18), (60, 100)])).max() <= 12


def test_a_row_of_a_training_image_is_its_own_nearest(tiny_artifact, photos):
    """The patch of a bank row leads back to the image and the cell that it came from."""
    detector = Detector.load(tiny_artifact)
    bank, names = detector.artifact.memory_bank, detector.manifest.training.images
    for row, (number, y, x) in enumerate(bank.origins[:8]):
        result = detector.predict(photos / names[number])
        assert result.nearest_rows[y, x] == row
        assert result.patch_distances[y, x] < 1e-3


def test_top_below_one_is_refused(tiny_artifact, photos):
    detector = Detector.load(tiny_artifact)
    with pytest.raises(ValueError, match="top: expected 1 or more, got 0"):
        detector.explain(detector.predict(photos / "000.png"), top=0)


def test_a_row_of_an_unknown_image_is_refused(own_artifact, photos):
    path = own_artifact / MEMORY_BANK
    content = bytearray(path.read_bytes())
    origins = bank_sections(read_memory_bank(path))[3]
    content[origins.offset : origins.offset + origins.size] = np.full(
        origins.shape, 77, "<i4"
    ).tobytes()
    path.write_bytes(content)
    write_sums(own_artifact)
    detector = Detector.load(own_artifact)
    with pytest.raises(ArtifactError, match=r"origins: row \d+: expected an image below 6, got 77"):
        detector.explain(detector.predict(photos / "000.png"))


@pytest.mark.parametrize("thumbnails", [False, True])
def test_score_writes_a_sheet_and_lists_its_content(
    thumbnails, photos, spoilt_photo, tmp_path, capsys
):
    artifact = make_artifact(tmp_path / "a", photos, tiny_config(), thumbnails=thumbnails)
    why = tmp_path / "why"
    options = ["--explain", str(why), "--regions"]
    assert main(["score", str(artifact), str(spoilt_photo), *options]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["sheet"] == str(why / "spoilt.png.explain.png")
    assert len(row["patches"]) == 5
    assert row["patches"][0]["normal_image"].endswith(".png")
    assert sum(region["area"] for region in row["regions"]) > 0
    with Image.open(row["sheet"]) as sheet:
        assert min(sheet.size) > 400
    assert main(["score", str(artifact), str(spoilt_photo)]) == 0
    assert set(row) - set(json.loads(capsys.readouterr().out)) == {"regions", "sheet", "patches"}


def test_a_sheet_shows_the_training_image_only_where_it_was_kept(photos, spoilt_photo, tmp_path):
    sheets = []
    for thumbnails in (False, True):
        folder = make_artifact(
            tmp_path / f"{thumbnails}", photos, tiny_config(), thumbnails=thumbnails
        )
        detector = Detector.load(folder)
        image = read_image(spoilt_photo)
        result = detector.predict(image)
        evidence = detector.explain(result)
        sheets.append(
            explain_sheet(
                detector.artifact,
                image,
                result,
                evidence,
                scale=detector.heatmap_scale,
                name="spoilt.png",
            )
        )
    bare, shown = sheets
    assert bare.shape == shown.shape
    differing = np.argwhere((bare != shown).any(axis=2))
    left, right = differing[:, 1].min(), differing[:, 1].max()
    assert 100 < right - left < 200  # one column of crops, and nothing else
    assert np.array_equal(bare[:, :left], shown[:, :left])


def test_two_images_of_one_name_are_refused_before_anything_is_scored(
    tiny_artifact, spoilt_photo, tmp_path, capsys
):
    other = tmp_path / "other"
    other.mkdir()
    (other / spoilt_photo.name).write_bytes(spoilt_photo.read_bytes())
    images = [str(spoilt_photo), str(other / spoilt_photo.name)]
    assert main(["score", str(tiny_artifact), *images, "--explain", str(tmp_path / "w")]) == 1
    assert "spoilt.png.explain.png: two images would get this file" in capsys.readouterr().err


def test_patches_outside_of_the_region_explain_nothing(photos, spoilt_photo, tmp_path):
    mask = write_mask(tmp_path / "mask.png")
    detector = Detector.load(make_artifact(tmp_path / "masked", photos, tiny_config(), roi=mask))
    evidence = detector.explain(detector.predict(spoilt_photo), top=500)
    assert evidence
    inside = detector.region.patches
    assert all(inside[one.patch] and inside[one.normal_patch] for one in evidence)
    assert all(one.distance > 0 for one in evidence)
