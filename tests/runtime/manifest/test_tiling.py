"""Laws of tiles: they cover the input, leave no seams, and score a defect wherever it lies."""

import dataclasses

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from artifact_factory import make_artifact, striped_photo, tiled_config, tiny_config
from masks import write_mask
from patchcore_build.evaluation.evaluate import evaluate
from patchcore_build.features.store import FeatureStore, keep_images
from patchcore_build.indexes.reindex import IndexJob, change_index
from patchcore_build.indexes.settings import IndexSettings
from patchcore_runtime import Artifact, Detector
from patchcore_runtime.image.preprocess import preprocess
from patchcore_runtime.image.region import Region
from patchcore_runtime.manifest.manifest import parse_manifest
from patchcore_runtime.manifest.tiling import TileGrid, tiling_of
from patchcore_runtime.scoring.patch_scorer import PatchScorer
from patchcore_runtime.selftest import run_selftest

GEOMETRIES = [
    (64, 64, 64, 0),
    (96, 64, 64, 16),
    (128, 192, 64, 16),
    (128, 192, 96, 48),
    (160, 416, 64, 32),
    (1024, 1344, 512, 64),
]  # height, width, tile, overlap


def grid_of(height, width, tile, overlap):
    tiling = tiling_of(height, width, tile, tile, overlap)
    return TileGrid(tiling, height, width, patch_px=8)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_tiles_of_one_size_cover_the_input_and_overlap_enough(geometry):
    height, width, tile, overlap = geometry
    grid = grid_of(*geometry)
    seen = np.zeros((height, width), np.int64)
    for top, left in grid.corners_px:
        assert top % 16 == left % 16 == 0
        assert seen[top : top + tile, left : left + tile].shape == (tile, tile)
        seen[top : top + tile, left : left + tile] += 1
    assert seen.min() >= 1
    for axis in (0, 1):
        starts = sorted({corner[axis] for corner in grid.corners_px})
        steps = np.diff(starts)
        assert (steps <= tile - overlap).all()
        assert (steps[:-1] == tile - overlap).all()  # no more tiles than it takes


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_pieces_of_one_grid_blend_back_to_it_bit_for_bit(geometry):
    grid = grid_of(*geometry)
    rng = np.random.default_rng(1)
    distances = rng.random(grid.cells, np.float32)
    rows = rng.integers(0, 99, grid.cells)
    blend = grid.blend()
    for tile in range(grid.tiles):
        blend.add(tile, grid.piece(distances, tile), grid.piece(rows, tile))
    whole, whole_rows = blend.whole()
    assert np.array_equal(whole, distances)
    assert np.array_equal(whole_rows, rows)


def test_between_two_tiles_that_differ_the_distance_goes_over_in_equal_steps():
    grid = grid_of(64, 112, 64, 16)
    blend = grid.blend()
    for tile, level in enumerate((1, 4)):
        blend.add(tile, np.full((8, 8), level, np.float32), np.full((8, 8), tile))
    whole, rows = blend.whole()
    assert whole[3] == pytest.approx([1, 1, 1, 1, 1, 1, 2, 3, 4, 4, 4, 4, 4, 4])
    assert rows[3].tolist() == [0] * 7 + [1] * 7


def test_cutting_takes_windows_row_by_row():
    pixels = np.random.default_rng(0).integers(0, 256, (128, 192, 3), dtype=np.uint8)
    grid = grid_of(128, 192, 64, 16)
    tiles = list(grid.cut(pixels))
    assert grid.corners_px[:5] == ((0, 0), (0, 48), (0, 96), (0, 128), (48, 0))
    for tile, (top, left) in zip(tiles, grid.corners_px, strict=True):
        assert np.array_equal(tile, pixels[top : top + 64, left : left + 64])


def tiled_store(images, *, region=None):
    """Draw random layers of images of 128 x 192 px in 3 x 4 tiles."""
    rng = np.random.default_rng(2)
    grid = grid_of(128, 192, 64, 16)
    return FeatureStore(
        layers=(
            rng.random((12 * images, 8, 8, 2), np.float32),
            rng.random((12 * images, 4, 4, 3), np.float32),
        ),
        upsampling="bilinear",
        grid=grid,
        region=region,
    )


def test_a_patch_of_the_input_is_found_in_the_tile_that_owns_it():
    store = tiled_store(3)
    places = np.arange(16 * 24)
    rows = store.owned_rows(1, places)
    assert store.images == 3
    assert len(np.unique(rows)) == len(rows)
    assert np.array_equal(store.origins(rows), [(1, *divmod(place, 24)) for place in places])
    tiles, inside = np.divmod(rows - store.patches_per_image, 64)
    for place, tile, number in zip(places, tiles, inside, strict=True):
        y, x = divmod(place, 24)
        top, left = np.array(store.grid.corners_px[tile]) // 8
        assert (number // 8 + top, number % 8 + left) == (y, x)
        assert store.grid.owned(tile).flat[number]


def test_images_that_are_kept_keep_all_their_tiles():
    before, after = tiled_store(4), keep_images(tiled_store(4), np.array([1, 3]))
    assert after.images == 2
    for kept, image in enumerate((1, 3)):
        for layer, same in zip(
            after.as_network_output(kept), before.as_network_output(image), strict=True
        ):
            assert np.array_equal(layer, same)


def test_rows_that_count_are_those_of_the_region_in_every_tile_that_sees_them():
    pixels = np.zeros((128, 192), np.bool_)
    pixels[40:72, 40:104] = True
    store = tiled_store(2, region=Region.of(pixels, 8))
    rows = store.rows_of(np.array([1]))
    origins = store.origins(rows)
    assert (origins[:, 0] == 1).all()
    assert store.region.patches[origins[:, 1], origins[:, 2]].all()
    seen = sum(int(store.grid.piece(store.region.patches, tile).sum()) for tile in range(12))
    assert len(rows) == seen > store.region.patches.sum()


@pytest.fixture(scope="module", params=["full-frame", "paper", "modelzoo"])
def tiled_artifact(request, tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("tiled") / request.param
    return make_artifact(folder, photos, tiled_config(request.param))


def test_the_manifest_describes_the_tiles(tiled_artifact):
    manifest = Artifact.open(tiled_artifact).manifest
    tiling, size = manifest.tiling, manifest.preprocess
    assert (tiling.tile_height, tiling.tile_width, tiling.overlap) == (64, 64, 16)
    assert (tiling.rows, tiling.columns) == ((3, 4) if size.width == 192 else (3, 3))
    assert manifest.layout.grid == (8, 8)
    assert parse_manifest(manifest.to_json(), "here") == manifest


def test_a_row_of_the_bank_is_the_patch_that_its_origin_names(tiled_artifact, photos):
    """The tiny network's layer2 depends on one cell only, so it is the same in every tile."""
    artifact = Artifact.open(tiled_artifact)
    bank, size = artifact.memory_bank, artifact.manifest.preprocess
    session = onnxruntime.InferenceSession(tiled_artifact / "features.onnx")
    for row in range(0, bank.rows, 7):
        image, y, x = bank.origins[row]
        pixels, _ = preprocess(photos / artifact.manifest.training.images[image], size)
        top, left = min(8 * y // 16 * 16, size.height - 64), min(8 * x // 16 * 16, size.width - 64)
        tile = pixels[None, top : top + 64, left : left + 64]
        (layer2,) = session.run(["layer2"], {"images": tile})
        assert bank.layers[0][row] == pytest.approx(
            layer2[0, :, y - top // 8, x - left // 8], rel=1e-5
        )


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_one_tile_owns_each_patch_and_sees_it_farthest_from_its_edges(geometry):
    height, width, tile, _ = geometry
    grid = grid_of(*geometry)
    owners = np.zeros(grid.cells, np.int64)
    for number in range(grid.tiles):
        grid.piece(owners, number)[:] += grid.owned(number)
    assert (owners == 1).all()
    for number, (top, left) in enumerate(grid.corners_px):
        owned = grid.owned(number)
        if geometry[3]:  # no patch at an edge that another tile sees from farther inside
            assert top == 0 or not owned[0].any()
            assert left == 0 or not owned[:, 0].any()
            assert top + tile >= height or not owned[-1].any()
            assert left + tile >= width or not owned[:, -1].any()


def test_the_score_is_that_of_the_strangest_patch_as_its_own_tile_sees_it(photos, tmp_path):
    artifact = make_artifact(tmp_path / "artifact", photos, tiled_config())
    detector = Detector.load(artifact, threads=1)
    result = detector.predict(striped_photo(77))
    highest = result.patch_distances.max()
    assert 0.8 * highest <= result.score <= 1.5 * highest  # blending lowers or raises a single peak
    assert result.patch_distances.shape == (16, 24)
    assert result.anomaly_map.shape == (128, 192)


def test_the_self_test_the_evaluation_and_another_index_take_tiles(
    tiled_artifact, photos, tmp_path
):
    artifact = Artifact.open(tiled_artifact)
    artifact.verify()
    assert all(step.passed for step in run_selftest(artifact))
    root = tmp_path / "data" / "stripes"
    for folder in ("test/good", "test/spot", "ground_truth/spot"):
        (root / folder).mkdir(parents=True)
    for number in range(4):
        photo, truth = striped_photo(number + 50), np.zeros((80, 120), np.uint8)
        if number % 2:
            photo[30:50, 40:70] = 255
            truth[30:50, 40:70] = 255
            Image.fromarray(truth).save(root / f"ground_truth/spot/{number}_mask.png")
        Image.fromarray(photo).save(
            root / "test" / ("spot", "good")[number % 2 == 0] / f"{number}.png"
        )
    found = evaluate(Detector.load(tiled_artifact), root.parent, "stripes")
    assert found.image_auroc == 1
    assert found.pixel_auroc > 0.9
    change_index(
        IndexJob(
            artifact=tiled_artifact,
            output=tmp_path / "again",
            settings=IndexSettings(kind="exact"),
        )
    )
    photo = photos / "000.png"
    again, before = (Detector.load(f).predict(photo) for f in (tmp_path / "again", tiled_artifact))
    assert again.score == before.score


def grey_photos(folder, count, *, size=(128, 192)):
    """Write images of grey paper with a little noise."""
    folder.mkdir()
    for number in range(count):
        noise = np.random.default_rng(number).normal(128, 4, (*size, 3))
        Image.fromarray(np.rint(noise).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def grey_artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grey")
    photos = grey_photos(folder / "photos", 6)
    return make_artifact(folder / "artifact", photos, tiled_config()), photos


def test_a_defect_scores_on_a_border_of_tiles_as_it_does_in_the_middle_of_one(grey_artifact):
    artifact, photos = grey_artifact
    detector = Detector.load(artifact, threads=1)
    photo = np.asarray(Image.open(photos / "0.png"))
    scores, peaks = [], []
    for left in range(16, 160, 16):  # tiles begin at 0, 48, 96, 128
        spoilt = photo.copy()
        spoilt[48:64, left : left + 16] = 250
        result = detector.predict(spoilt)
        scores.append(result.score)
        peaks.append(float(result.anomaly_map.max()))
        assert abs(int(result.anomaly_map.max(axis=0).argmax()) - (left + 7.5)) <= 4
    assert max(scores) <= 1.02 * min(scores)
    # With two cells of overlap, a tile has a weight of one third at the patches of its edge.
    assert max(peaks) <= 1.12 * min(peaks)


def test_the_map_of_a_uniform_image_has_no_seams(grey_artifact):
    artifact, photos = grey_artifact
    detector = Detector.load(artifact, threads=1)
    steps = np.zeros(191)
    for path in photos.iterdir():
        steps = np.maximum(steps, np.abs(np.diff(detector.predict(path).anomaly_map)).max(axis=0))
    borders = [edge - 1 for edge in (48, 64, 96, 112, 128, 160)]  # where tiles begin and end
    assert steps[borders].max() <= np.delete(steps, borders).max()


def test_tiles_and_a_region_go_together(photos, tmp_path):
    mask = write_mask(tmp_path / "mask.png")
    artifact = make_artifact(tmp_path / "artifact", photos, tiled_config("paper"), roi=mask)
    detector = Detector.load(artifact, threads=1)
    inside = detector.region.patches
    y, x = detector.artifact.memory_bank.origins[:, 1:].T
    assert inside[y, x].all()
    result = detector.predict(striped_photo(3))
    assert (result.patch_distances[~inside] == 0).all()
    assert (result.anomaly_map[~detector.region.pixels] == 0).all()
    assert all(step.passed for step in run_selftest(detector.artifact))


def test_a_tile_as_large_as_the_input_is_no_tile(photos, tiny_artifact, tmp_path):
    artifact = make_artifact(
        tmp_path / "artifact", photos, tiny_config(tile_px=96, tile_overlap_px=48)
    )
    for name in ("memory_bank.bin", "features.onnx", "selftest_map.npy"):
        assert (artifact / name).read_bytes() == (tiny_artifact / name).read_bytes()
    tiling = Artifact.open(artifact).manifest.tiling
    assert tiling == Artifact.open(tiny_artifact).manifest.tiling


def test_the_layers_of_a_tile_are_computed_only_after_the_tile_before_it(grey_artifact):
    artifact = Artifact.open(grey_artifact[0])
    manifest = artifact.manifest
    grid = manifest.grid
    asked, searched = [], []

    class CountingIndex:
        """An index with distance 1 and row 0 everywhere."""

        def nearest(self, layers):
            """Count the call."""
            searched.append(1)
            shape = (1, *layers[0].shape[2:])
            return np.ones(shape, np.float32), np.zeros(shape, np.int64)

    def layers():
        for _ in range(grid.tiles):
            asked.append(len(searched))
            yield np.ones((1, 6, 8, 8), np.float32), np.ones((1, 10, 4, 4), np.float32)

    scorer = PatchScorer(
        artifact.memory_bank, CountingIndex(), manifest.layout, manifest.scoring, grid=grid
    )
    assert scorer.score_tiles(layers()).anomaly_map == pytest.approx(1)
    assert asked == list(range(12))


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"tile_px": 100}, "tile_px"),
        ({"tile_px": 32}, "tile_px"),
        ({"tile_px": 64, "tile_overlap_px": 20}, "tile_overlap_px"),
        ({"tile_px": 64, "tile_overlap_px": 48}, "tile_overlap_px"),
        ({"tile_px": 64, "tile_overlap_px": -16}, "tile_overlap_px"),
    ],
)
def test_tiles_that_do_not_fit_the_grid_are_refused_by_name(overrides, named):
    with pytest.raises(ValueError, match=named):
        tiled_config(**overrides)


def test_a_manifest_whose_tiles_do_not_cover_is_refused(tiled_artifact):
    manifest = Artifact.open(tiled_artifact).manifest
    fewer = dataclasses.replace(manifest.tiling, rows=2)
    with pytest.raises(ValueError, match=r"tiling\.rows: expected as many as cover"):
        dataclasses.replace(manifest, tiling=fewer)


def test_the_first_of_tiles_with_equal_weight_owns_a_patch():
    """The last tile is moved inwards, so that its plateau lies on the plateau of the first."""
    grid = grid_of(64, 96, 64, 16)  # tiles at columns 0 and 4 of 8 cells
    assert grid.corners_px == ((0, 0), (0, 32))
    # Weights along a row, 1 2 2 2 2 2 2 1, overlap in cells 4 to 7: 2 2 2 1 beside 1 2 2 2.
    first, second = grid.owned(0)[0], grid.owned(1)[0]
    assert first.tolist() == [True] * 7 + [False]
    assert second.tolist() == [False] * 3 + [True] * 5


def test_tiles_that_overlap_by_their_whole_length_are_refused():
    with pytest.raises(ValueError, match="overlap: expected less than the tile's 64 px"):
        tiling_of(64, 96, 64, 64, 64)
