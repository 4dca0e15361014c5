"""Laws of the detector, compared with an independent NumPy and SciPy implementation."""

import dataclasses
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from scipy import ndimage
from scipy.spatial.distance import cdist

from artifact_factory import make_artifact, striped_photo, tiny_config, write_photos, write_sums
from patchcore_runtime import (
    Artifact,
    ArtifactError,
    Detector,
    ImageError,
    ProviderError,
    ThresholdError,
)
from patchcore_runtime.artifact.folder import FEATURES_MINDIR, RUNTIME_FILES, SELFTEST_FILES
from patchcore_runtime.bank.memory_bank import read_memory_bank, write_memory_bank
from patchcore_runtime.image.preprocess import preprocess

SCORES = ("max", "map", "paper", "modelzoo")
EVERY_FILE = (*RUNTIME_FILES, *SELFTEST_FILES, FEATURES_MINDIR)  # of an exact float32 artifact


@pytest.fixture(scope="module")
def detector(tiny_artifact):
    return Detector.load(tiny_artifact, threads=1)


@pytest.fixture(scope="module", params=["bilinear", "nearest"])
def upsampled(request, tmp_path_factory, photos):
    """Make an artifact per way of upsampling; its image score is changed in memory."""
    folder = tmp_path_factory.mktemp("upsampled") / request.param
    return make_artifact(folder, photos, tiny_config(upsampling=request.param))


def _with_score(artifact, kind):
    unit = "squared" if kind == "modelzoo" else "euclidean"
    scoring = dataclasses.replace(artifact.manifest.scoring, image_score=kind, distance=unit)
    return Artifact(artifact.folder, dataclasses.replace(artifact.manifest, scoring=scoring))


def _defect(seed=40):
    photo = striped_photo(seed)
    photo[30:40, 50:80] = 0
    photo[40:50, 50:80] = 255
    return photo


def _patches(folder, photo, *, upsampling):
    """Compute patch vectors (P, D) in float64 from the network's output."""
    manifest = Artifact.open(folder).manifest
    pixels, _ = preprocess(photo, manifest.preprocess)
    session = onnxruntime.InferenceSession(folder / "features.onnx")
    layer2, layer3 = (out[0].astype(float) for out in session.run(None, {"images": pixels[None]}))
    if upsampling == "nearest":
        fine = layer3.repeat(2, axis=1).repeat(2, axis=2)
    else:
        fine = ndimage.zoom(layer3, (1, 2, 2), order=1, mode="nearest", grid_mode=True)
    return np.concatenate([layer2, fine]).reshape(len(layer2) + len(layer3), -1).T


def _expected(folder, photo, kind, *, upsampling, neighbours=4):
    """Compute (score, distances, map) as in the paper, section 3.3, and the Models repository."""
    bank = read_memory_bank(folder / "memory_bank.bin")
    rows = np.concatenate([bank.layers[0], bank.layers[1]], axis=1).astype(float)
    gaps = cdist(_patches(folder, photo, upsampling=upsampling), rows)
    nearest = gaps.min(axis=1)
    patch = nearest.argmax()
    largest = nearest[patch]
    score = largest
    if kind == "paper":
        star = gaps[patch].argmin()
        around = np.argsort(cdist(rows[[star]], rows)[0])[:neighbours]
        score = (1 - np.exp(largest) / np.exp(gaps[patch, around]).sum()) * largest
    if kind == "modelzoo":
        squares = np.sort(gaps[patch] ** 2)[:neighbours]
        score = (1 - np.exp(squares).max() / np.exp(squares).sum()) * squares[0]
    manifest = Artifact.open(folder).manifest
    grid = nearest.reshape(manifest.layout.grid)
    levels = grid**2 if kind == "modelzoo" else grid
    fine = ndimage.zoom(levels, 8, order=1, mode="nearest", grid_mode=True)
    smooth = ndimage.gaussian_filter(fine, manifest.scoring.sigma_px, mode="reflect")
    return smooth.max() if kind == "map" else score, grid, smooth


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("photo", [striped_photo(30), _defect()], ids=["good", "defect"])
def test_scores_and_maps_are_those_of_plain_numpy(upsampled, kind, photo):
    upsampling = upsampled.name
    result = Detector(_with_score(Artifact.open(upsampled), kind), threads=1).predict(photo)
    score, grid, smooth = _expected(upsampled, photo, kind, upsampling=upsampling)
    assert result.score == pytest.approx(score, rel=1e-4)
    assert result.patch_distances == pytest.approx(grid, rel=1e-4)
    assert result.anomaly_map == pytest.approx(smooth, rel=1e-4)


def test_a_bank_of_several_blocks_is_searched_whole(tmp_path):
    photos = write_photos(tmp_path / "photos", 22)
    config = tiny_config(coreset_ratio=1.0)
    folder = make_artifact(tmp_path / "whole", photos, config)
    assert Artifact.open(folder).manifest.memory_bank.rows == 22 * 96  # more than one block of 2048
    detector = Detector.load(folder, threads=1)
    for photo in (striped_photo(30), _defect()):
        score, grid, _ = _expected(folder, photo, "max", upsampling="bilinear")
        result = detector.predict(photo)
        assert result.patch_distances == pytest.approx(grid, rel=1e-4)
        assert result.score == pytest.approx(score, rel=1e-4)
    known = detector.predict(photos / "021.png")
    assert known.score < 1e-5
    assert detector.artifact.memory_bank.origins[known.nearest_rows.ravel()].tolist() == [
        [21, y, x] for y in range(8) for x in range(12)
    ]


def test_a_bank_of_one_row_scores_the_distance_to_it(tmp_path, photos):
    config = tiny_config("paper", coreset_ratio=1e-6)
    folder = make_artifact(tmp_path / "one", photos, config)
    result = Detector.load(folder, threads=1).predict(_defect())
    assert result.score == result.patch_distances.max()
    assert (result.nearest_rows == 0).all()


def test_a_batch_has_the_same_results_as_its_single_images(detector):
    photos = [striped_photo(seed) for seed in range(30, 34)] + [_defect()]
    batch = detector.predict_batch(iter(photos))
    assert len(batch) == len(photos)
    for photo, together in zip(photos, batch, strict=True):
        alone = detector.predict(photo)
        assert together.score == alone.score
        assert np.array_equal(together.anomaly_map, alone.anomaly_map)
        assert np.array_equal(together.nearest_rows, alone.nearest_rows)
    assert detector.predict_batch([]) == []


def test_the_graphs_take_batches_too(detector, tiny_artifact):
    photos = [striped_photo(30), _defect(), striped_photo(31)]
    settings = detector.manifest.preprocess
    pixels = np.stack([preprocess(photo, settings)[0] for photo in photos])
    features = onnxruntime.InferenceSession(tiny_artifact / "features.onnx")
    index = onnxruntime.InferenceSession(tiny_artifact / "index.onnx")
    layer2, layer3 = features.run(["layer2", "layer3"], {"images": pixels})
    distances, rows = index.run(["distances", "rows"], {"layer2": layer2, "layer3": layer3})
    for number, photo in enumerate(photos):
        alone = detector.predict(photo)
        assert distances[number] == pytest.approx(alone.patch_distances, rel=1e-5)
        assert np.array_equal(rows[number], alone.nearest_rows)


def test_eight_threads_get_the_results_of_one(detector):
    photos = [striped_photo(seed) for seed in range(30, 46)]
    alone = [detector.predict(photo) for photo in photos]
    with ThreadPoolExecutor(max_workers=8) as pool:
        together = list(pool.map(detector.predict, photos))
    for left, right in zip(alone, together, strict=True):
        assert left.score == right.score
        assert np.array_equal(left.anomaly_map, right.anomaly_map)


def test_more_threads_change_nothing_but_rounding(detector, tiny_artifact):
    two = Detector.load(tiny_artifact, threads=2).predict(_defect())
    one = detector.predict(_defect())
    assert two.score == pytest.approx(one.score, rel=1e-5)
    assert two.anomaly_map == pytest.approx(one.anomaly_map, rel=1e-5)


def test_path_image_and_array_score_the_same(detector, tmp_path):
    Image.fromarray(_defect()).save(tmp_path / "part.png")
    expected = detector.predict(_defect())
    for source in (tmp_path / "part.png", str(tmp_path / "part.png"), Image.fromarray(_defect())):
        assert detector.predict(source).score == expected.score


def test_a_defect_scores_higher_and_peaks_where_it_is(detector):
    good, bad = detector.predict(striped_photo(40)), detector.predict(_defect())
    assert bad.score > good.score
    assert bad.is_anomalous
    y, x = bad.peak
    assert 26 <= y < 54
    assert 46 <= x < 84


def test_the_verdict_is_strictly_above_the_threshold(detector):
    result = detector.predict(_defect())
    at = dataclasses.replace(result, threshold=result.score)
    assert not at.is_anomalous
    below = dataclasses.replace(result, threshold=np.nextafter(result.score, 0))
    assert below.is_anomalous


def test_thresholds_and_scale_are_those_of_the_manifest(detector):
    calibration = detector.manifest.calibration
    result, scale = detector.predict(_defect()), detector.heatmap_scale
    assert result.threshold == calibration.image_threshold
    assert result.pixel_threshold == calibration.pixel_threshold
    assert (scale.low, scale.threshold, scale.high) == (
        calibration.heatmap.low,
        calibration.pixel_threshold,
        calibration.heatmap.high,
    )


@pytest.mark.parametrize("size", [(64, 96), (80, 120), (400, 300), (9, 200)])
def test_a_map_of_the_whole_frame_covers_the_photograph(detector, size):
    photo = striped_photo(1, size=size)
    result = detector.predict(photo)
    laid = result.map_on(photo)
    assert laid.shape == size
    assert laid.dtype == np.float32
    assert laid.min() > 0
    assert np.array_equal(laid, result.map_on(Image.fromarray(photo)))
    if size == (64, 96):
        assert np.array_equal(laid, result.anomaly_map)


@pytest.mark.parametrize("size", [(80, 120), (120, 80), (160, 160)])
def test_a_map_of_a_crop_is_zero_outside_the_crop(cropped_artifact, size):
    photo = striped_photo(1, size=size)
    result = Detector.load(cropped_artifact, threads=1).predict(photo)
    place = result.placement
    laid = result.map_on(photo)
    assert laid.shape == size
    scale = size[0] / place.resized_height, size[1] / place.resized_width
    top, left = int((place.top + 2) * scale[0]) + 1, int((place.left + 2) * scale[1]) + 1
    bottom, right = int((place.top + 62) * scale[0]), int((place.left + 62) * scale[1])
    assert (laid[top:bottom, left:right] > 0).all()
    outer = np.ones(size, bool)
    outer[
        int((place.top - 2) * scale[0]) : int((place.top + 66) * scale[0]) + 1,
        int((place.left - 2) * scale[1]) : int((place.left + 66) * scale[1]) + 1,
    ] = False
    assert outer.any()
    assert (laid[outer] == 0).all()
    y, x = result.peak
    assert top - 4 <= y < bottom + 4
    assert left - 4 <= x < right + 4


def test_a_map_is_refused_for_an_image_of_another_size(detector):
    result = detector.predict(_defect())
    with pytest.raises(ValueError, match="expected 120 x 80 px as scored, got 80 x 120"):
        result.map_on(np.zeros((120, 80, 3), np.uint8))


def test_an_image_that_cannot_be_read_is_refused(detector, tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        detector.predict(tmp_path / "absent.png")


def test_an_unavailable_provider_is_refused(tiny_artifact):
    with pytest.raises(ProviderError, match="NoSuchProvider: not in this onnxruntime"):
        Detector.load(tiny_artifact, providers=["NoSuchProvider"])


@pytest.mark.parametrize("name", RUNTIME_FILES)
def test_one_altered_byte_keeps_a_detector_from_loading(own_artifact, name):
    content = bytearray((own_artifact / name).read_bytes())
    content[len(content) // 2] ^= 1
    (own_artifact / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
        Detector.load(own_artifact)


@pytest.mark.parametrize("name", EVERY_FILE)
def test_verify_detects_one_altered_byte_at_either_end_of_any_file(own_artifact, name):
    artifact = Artifact.open(own_artifact)
    artifact.verify()
    whole = (own_artifact / name).read_bytes()
    for place in (0, -1):
        content = bytearray(whole)
        content[place] ^= 0x80
        (own_artifact / name).write_bytes(content)
        with pytest.raises(ArtifactError, match=rf"{name.replace('.', '[.]')}: altered"):
            artifact.verify()


@pytest.mark.parametrize("name", [*RUNTIME_FILES, "SHA256SUMS"])
def test_a_missing_file_is_named(own_artifact, name):
    (own_artifact / name).unlink()
    with pytest.raises(ArtifactError, match=rf"{name.replace('.', '[.]')}: No such file"):
        Detector.load(own_artifact)


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_file_that_is_not_listed_is_refused(own_artifact, name):
    sums = (own_artifact / "SHA256SUMS").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = "".join(line for line in sums if not line.endswith(f"  {name}\n"))
    (own_artifact / "SHA256SUMS").write_text(kept, encoding="utf-8")
    with pytest.raises(ArtifactError, match=f"{name} is not listed"):
        Artifact.open(own_artifact, verify=False).verify()


@pytest.mark.parametrize("text", ["nonsense\n", "abc  manifest.json\n", "\n", "0" * 66 + "\n"])
def test_a_damaged_list_of_checksums_is_refused_with_its_line(own_artifact, text):
    (own_artifact / "SHA256SUMS").write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match="SHA256SUMS: line 1: expected"):
        Artifact.open(own_artifact)


@pytest.mark.parametrize(
    ("name", "told"), [("manifest.json", "not UTF-8"), ("SHA256SUMS", "line 1: expected")]
)
def test_text_that_is_not_utf8_is_refused(own_artifact, name, told):
    (own_artifact / name).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtifactError, match=told):
        Artifact.open(own_artifact)


def test_no_folder_and_no_artifact_are_refused(tmp_path):
    with pytest.raises(ArtifactError, match="no such folder"):
        Detector.load(tmp_path / "absent")
    with pytest.raises(ArtifactError, match=r"manifest\.json: No such file"):
        Detector.load(tmp_path)


def test_a_bank_whose_shape_differs_from_the_manifest_is_refused(own_artifact):
    path = own_artifact / "manifest.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["memory_bank"]["rows"] += 1
    path.write_text(json.dumps(document), encoding="utf-8")
    write_sums(own_artifact)
    with pytest.raises(
        ArtifactError, match=r"manifest\.json says \(30, 4, \(6, 10\), 'float32'\), the file has"
    ):
        Detector.load(own_artifact)


@pytest.mark.parametrize("name", ["features.onnx", "index.onnx"])
@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_another_file_in_place_of_a_graph_is_refused(own_artifact, name, content):
    (own_artifact / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"{name}: expected (an ONNX graph|the search)"):
        Detector.load(own_artifact, verify=False)


def test_a_bank_shorter_than_its_index_is_refused(own_artifact, tmp_path):
    bank = read_memory_bank(own_artifact / "memory_bank.bin")
    short = {name: getattr(bank, name)[:5] for name in ("norms", "origins")}
    short["layers"] = tuple(layer[:5] for layer in bank.layers)
    short["neighbours"] = np.zeros((5, 4), np.int32)
    write_memory_bank(tmp_path / "short.bin", dataclasses.replace(bank, **short))
    shutil.copyfile(tmp_path / "short.bin", own_artifact / "memory_bank.bin")
    with pytest.raises(ArtifactError):
        Detector.load(own_artifact, verify=False)


@pytest.mark.parametrize("recipe", ["full-frame", "modelzoo"])
def test_the_same_images_and_seed_give_the_same_bytes(tmp_path, photos, recipe):
    for name in ("left", "right"):
        make_artifact(tmp_path / name, photos, tiny_config(recipe))
    for name in (*EVERY_FILE, "SHA256SUMS"):
        left, right = ((tmp_path / side / name).read_bytes() for side in ("left", "right"))
        assert left == right, name


@pytest.mark.parametrize("rate", [0.5, 0.05, 0.002])
def test_another_false_alarm_rate_moves_both_thresholds_and_no_score(tiny_artifact, rate):
    plain = Detector.load(tiny_artifact)
    asked = Detector.load(tiny_artifact, target_fpr=rate)
    photo = striped_photo(77)
    before, after = plain.predict(photo), asked.predict(photo)
    assert (after.score, after.p_value) == (before.score, before.p_value)
    calibration = plain.manifest.calibration
    rarer = rate < calibration.target_fpr
    assert (after.threshold > before.threshold) == rarer
    assert (after.pixel_threshold > before.pixel_threshold) == rarer
    assert after.score_ratio == after.score / after.threshold
    assert after.is_anomalous == (after.score_ratio > 1) == (after.p_value <= rate)
    assert asked.heatmap_scale.threshold == after.pixel_threshold


def test_another_threshold_leaves_the_pixel_threshold_alone(tiny_artifact):
    plain = Detector.load(tiny_artifact).predict(striped_photo(77))
    asked = Detector.load(tiny_artifact, threshold=plain.score / 3).predict(striped_photo(77))
    assert asked.is_anomalous
    assert asked.score_ratio == pytest.approx(3)
    assert asked.pixel_threshold == plain.pixel_threshold


def test_a_rate_out_of_reach_is_refused_at_load(tiny_artifact):
    with pytest.raises(ThresholdError, match=r"expected .* to below 1, got 1e-09; .*images"):
        Detector.load(tiny_artifact, target_fpr=1e-9)
