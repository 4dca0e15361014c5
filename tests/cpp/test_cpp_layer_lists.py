"""One to four layers, patches of any size, every rule of the map: the same in both programs."""

import json

import numpy as np
import pytest
from PIL import Image

from artifact_factory import striped_photo, write_sums
from cpp_binary import needs_binary
from cpp_runs import assert_same, maps_of_cpp, pythons_rows, rows_of, run, scores_of_both
from layered_artifact import make_layered
from patchcore_runtime import Detector
from patchcore_runtime.artifact.folder import MANIFEST

pytestmark = needs_binary

ONE = [("block11", 6, 1)]
EQUAL = [("block3", 5, 1), ("block7", 5, 1)]
THREE = [("layer1", 4, 1), ("layer2", 5, 2), ("layer3", 6, 4)]
FOUR = [("output0", 4, 1), ("output1", 3, 2), ("output2", 5, 2), ("output3", 6, 6)]

CASES = {
    "one layer of patches of 14 px": (ONE, {"patch_px": 14, "size": (70, 98)}),
    "two layers of one shape": (EQUAL, {"patch_px": 16, "size": (64, 96)}),
    "three grids": (THREE, {"patch_px": 4, "size": (64, 96)}),
    "four layers, three grids": (
        FOUR,
        {"patch_px": 4, "size": (48, 96), "upsampling": "nearest", "precision": "float16"},
    ),
    "tiles of patches of 14 px": (
        ONE,
        {"patch_px": 14, "size": (98, 112), "tile": (56, 56), "overlap": 14},
    ),
    "tiles on three grids": (
        THREE,
        {"patch_px": 4, "size": (64, 96), "tile": (32, 48), "overlap": 16},
    ),
}


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(2):
        Image.fromarray(striped_photo(seed)).save(folder / f"{seed}.png")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("case", CASES)
def test_scores_and_maps_are_the_same_for_any_list_of_layers(case, images, tmp_path, capsys):
    layers, settings = CASES[case]
    artifact = make_layered(tmp_path / "made", layers, **settings)
    for search in ("engine", "portable"):
        assert_same(*scores_of_both(artifact, images, capsys, "--search", search))
    _assert_same_maps(artifact, images, tmp_path, capsys)


@pytest.mark.parametrize("border", ["repeated", "mirrored"])
@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    "score",
    [("max", "euclidean"), ("max", "squared"), ("paper", "euclidean"), ("modelzoo", "squared")],
    ids="-".join,
)
def test_every_rule_of_score_and_map_is_the_same(
    score, upsampling, border, images, tmp_path, capsys
):
    rule = {
        "image_score": score[0],
        "distance": score[1],
        "sigma_px": 4.0 if score[0] == "max" else 10.0,  # reaches over the side
        "map_upsampling": upsampling,
        "map_border": border,
    }
    artifact = make_layered(
        tmp_path / "made", THREE, patch_px=4, size=(32, 64), scoring=rule.items()
    )
    assert_same(*scores_of_both(artifact, images, capsys))
    _assert_same_maps(artifact, images, tmp_path, capsys)


def _assert_same_maps(artifact, images, folder, capsys):
    detector = Detector.load(artifact)
    for image, theirs, unit in maps_of_cpp(artifact, images, folder / "maps", capsys):
        ours = detector.predict(image).anomaly_map
        assert ours.shape == theirs.shape
        assert np.ptp(ours) > 10 * unit
        assert np.abs(ours - theirs).max() <= unit + 1e-5 * ours.max()


@pytest.mark.parametrize(("patch_px", "size"), [(5, (40, 60)), (14, (70, 98))])
def test_a_patch_counts_in_both_if_half_of_its_pixels_are_white(
    patch_px, size, images, tmp_path, capsys
):
    artifact = make_layered(tmp_path / "made", ONE, patch_px=patch_px, size=size)
    white = np.random.default_rng(patch_px).random(size) < 0.5  # many patches are about half white
    Image.fromarray(white).save(tmp_path / "mask.png")
    options = ("--roi", tmp_path / "mask.png")
    detector = Detector.load(artifact, roi=tmp_path / "mask.png")
    assert 0.2 < detector.region.patches.mean() < 0.8
    code, stdout, stderr = run(artifact, *images, *options, "--maps", tmp_path / "maps")
    assert code == 0, stderr
    rows = rows_of(stdout)
    for row, image in zip(rows, images, strict=True):
        row.pop("map")
        found = np.asarray(Image.open(tmp_path / "maps" / f"{image.name}.map.png")) > 0
        assert (found == (detector.predict(image).anomaly_map > 0)).mean() > 0.999
    assert_same(rows, pythons_rows(artifact, images, capsys, *options))


def test_a_network_with_other_outputs_is_refused(tmp_path):
    made = make_layered(tmp_path / "made", THREE, patch_px=4, size=(64, 96))
    document = json.loads((made / MANIFEST).read_text(encoding="utf-8"))
    for layers, reason in (
        (("layer1", "layer3", "layer2"), "expected the outputs layer1, layer3, layer2 as"),
        (("layer1", "layer2", "layer4"), "expected the outputs layer1, layer2, layer4 as"),
    ):
        for layer, name in zip(document["features"]["layers"], layers, strict=True):
            layer["name"] = name
        (made / MANIFEST).write_text(json.dumps(document), encoding="utf-8")
        write_sums(made)
        code, out, err = run(made, made / "selftest.png")
        assert (code, out) == (1, "")
        assert reason in err
        assert "got 'layer1, layer2, layer3'" in err
