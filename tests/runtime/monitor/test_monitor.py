"""Laws of the monitor: it names the change, survives a power cut, and refuses corrupt states."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from artifact_factory import make_artifact, striped_photo, tiny_config, write_photos
from patchcore_runtime import Detector, Monitor, MonitorError
from patchcore_runtime.cli.main import main
from patchcore_runtime.monitor import monitor
from patchcore_runtime.monitor.causes import Evidence, find_causes
from patchcore_runtime.monitor.state import locked_state


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """Make an artifact of forty good images."""
    folder = tmp_path_factory.mktemp("line")
    return make_artifact(folder / "stripes", write_photos(folder / "photos", 40), tiny_config())


@pytest.fixture(scope="module")
def detector(line):
    return Detector.load(line, threads=1)


@pytest.fixture(scope="module")
def good(detector):
    """Return results of thirty images that were not learned."""
    return [detector.predict(striped_photo(seed), measure=True) for seed in range(100, 130)]


@pytest.fixture(scope="module")
def bright(detector):
    return [detector.predict(brighter(seed), measure=True) for seed in range(200, 220)]


def brighter(seed):
    return np.clip(striped_photo(seed).astype(int) + 40, 0, 255).astype(np.uint8)


def evidence(statistic, deviations, *, recent=1.0, middle=1.0):
    return Evidence(
        statistic=statistic,
        test="ewma",
        recent=recent,
        normal=(middle, middle, middle),
        deviations=deviations,
    )


def test_good_images_raise_no_alarm_and_brighter_ones_are_named(detector, good, bright):
    watch = Monitor(detector.manifest)
    verdicts = [watch.update(result) for result in good]
    assert not any(verdict.alarm for verdict in verdicts)
    verdicts = [watch.update(result) for result in bright[:10]]
    assert sum(verdict.began for verdict in verdicts) == 1
    last = verdicts[-1]
    assert last.images == 40
    assert last.candidates[0].cause == "light changed"
    shown = {item.statistic: item for item in last.candidates[0].evidence}["brightness"]
    low, middle, high = shown.normal
    assert low < middle < high < shown.recent
    assert shown.deviations > 3


def test_an_interrupted_monitor_continues_as_if_never_stopped(detector, good, bright, tmp_path):
    path = tmp_path / "line.monitor"
    whole = Monitor(detector.manifest)
    for result in (*good, *bright):
        again = Monitor(detector.manifest, state=path)  # a fresh one for every image
        assert again.update(result) == whole.update(result)
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_size < 20_000


def test_a_partial_file_after_a_power_cut_is_ignored(detector, good, tmp_path):
    path = tmp_path / "line.monitor"
    Monitor(detector.manifest, state=path).update(good[0])
    (tmp_path / f".{path.name}.part").write_text("half a st")
    assert Monitor(detector.manifest, state=path).update(good[1]).images == 2


def test_a_damaged_state_file_is_refused_whatever_byte_is_wrong(detector, good, tmp_path):
    path = tmp_path / "line.monitor"
    Monitor(detector.manifest, state=path).update(good[0])
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [content[:length] for length in (0, 1, len(content) // 2, len(content) - 3)]
    for place in rng.integers(0, len(content) - 1, 60):
        other = bytes([content[place] ^ 1])
        damaged.append(content[:place] + other + content[place + 1 :])
    damaged += [b"[]", b"null", b"\xff\xfe", content[:-2] + b', "more": 1}\n', b"[" * 100_000]
    for wrong in damaged:
        path.write_bytes(wrong)
        with pytest.raises(
            MonitorError, match=r"line\.monitor: .*remove it to begin again"
        ) as told:
            Monitor(detector.manifest, state=path)
        assert "\n" not in str(told.value)
        assert path.read_bytes() == wrong  # to inspect them


def test_a_state_of_another_artifact_or_version_is_refused(detector, good, tmp_path, monkeypatch):
    path = tmp_path / "line.monitor"
    Monitor(detector.manifest, state=path).update(good[0])
    training = dataclasses.replace(detector.manifest.training, digest="other images")
    other = dataclasses.replace(detector.manifest, training=training)
    with pytest.raises(MonitorError, match="belongs to another artifact"):
        Monitor(other, state=path)
    monkeypatch.setattr("patchcore_runtime.monitor.state.VERSION", 3)
    with pytest.raises(MonitorError, match=r"version: expected 3, got 2; remove it"):
        Monitor(detector.manifest, state=path)


def test_a_state_that_cannot_be_written_is_refused(detector, good, tmp_path):
    watch = Monitor(detector.manifest, state=tmp_path / "missing" / "line.monitor")
    with pytest.raises(MonitorError, match=r"line\.monitor: cannot be written"):
        watch.update(good[0])


def test_another_threshold_goes_on_with_the_same_state(line, good, tmp_path):
    path = tmp_path / "line.monitor"
    Monitor(Detector.load(line, threads=1).manifest, state=path).update(good[0])
    other = Detector.load(line, threads=1, threshold=3.0).manifest
    assert Monitor(other, state=path).update(good[1]).images == 2


@pytest.mark.parametrize("rate", [0, -1, 0.051, float("nan")])
def test_a_rate_out_of_range_is_refused(detector, rate):
    with pytest.raises(MonitorError, match=r"false-alarm rate: expected above 0 and at most 0\.05"):
        Monitor(detector.manifest, rate=rate)


def test_too_few_training_images_are_refused(tiny_artifact):
    manifest = Detector.load(tiny_artifact, threads=1).manifest
    with pytest.raises(MonitorError, match="at least 30 good images, got 6"):
        Monitor(manifest)


def test_a_result_without_measurements_is_refused(detector):
    result = detector.predict(striped_photo(1))
    assert result.measured is None
    with pytest.raises(MonitorError, match="measure=True"):
        Monitor(detector.manifest).update(result)


def test_measuring_changes_no_score(detector, good):
    result = detector.predict(striped_photo(100))
    assert result.score == good[0].score
    np.testing.assert_array_equal(result.anomaly_map, good[0].anomaly_map)


@pytest.mark.parametrize(
    ("changed", "causes"),
    [
        ([], []),
        ([("row_shift", 5)], ["camera moved"]),
        ([("row_shift", 5), ("brightness", -4)], ["camera moved", "light changed"]),
        ([("row_shift", 2), ("contrast", -9)], ["light changed"]),  # a side effect
        ([("sharpness", -6), ("layer2", 40)], ["focus changed"]),
        ([("layer3", 4), ("score", 3)], ["batch changed"]),
        ([("likeness", -2)], ["batch changed"]),
    ],
)
def test_the_strongest_evidence_names_the_cause(changed, causes):
    found = find_causes([evidence(name, deviations) for name, deviations in changed])
    assert [candidate.cause for candidate in found] == causes


def test_unlike_images_mean_another_batch_whatever_else_changed():
    changed = [evidence("likeness", -9, recent=0.3, middle=0.9), evidence("row_shift", 99)]
    (only,) = find_causes(changed)
    assert only.cause == "batch changed"
    assert len(only.evidence) == 2
    changed[0] = evidence("likeness", -9, recent=0.6, middle=0.9)
    assert find_causes(changed)[0].cause == "camera moved"


def test_the_command_prints_the_lines_of_score_with_a_verdict(line, tmp_path, capsys):
    shots = tmp_path / "shots"
    shots.mkdir()
    for number in range(12):
        Image.fromarray(brighter(number)).save(shots / f"{number:02}.png")
    (shots / "05.png").write_bytes(b"no image")
    assert main(["score", str(line), str(shots)]) == 1
    scored = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    command = ["monitor", str(line), str(shots), "--state", str(tmp_path / "state")]
    assert main(command) == 1
    shown = capsys.readouterr()
    rows = [json.loads(text) for text in shown.out.splitlines()]
    assert "05.png" in shown.err
    verdicts = [row.pop("monitor", None) for row in rows]
    assert rows == scored
    assert verdicts[5] is None
    told = [verdict for verdict in verdicts if verdict is not None]
    assert [verdict["images"] for verdict in told] == list(range(1, 12))
    assert told[-1]["alarm"] is True
    assert told[-1]["candidates"][0]["cause"] == "light changed"
    assert sum(verdict["began"] for verdict in told) == 1
    (shots / "05.png").unlink()
    assert main(command) == 0
    rows = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [row["monitor"]["images"] for row in rows] == list(range(12, 23))


def test_the_command_refuses_a_damaged_state_before_it_scores(line, photos, tmp_path, capsys):
    (tmp_path / "state").write_text("{}")
    assert main(["monitor", str(line), str(photos), "--state", str(tmp_path / "state")]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.endswith("remove it to begin again\n")


def _monitor(capsys, *argv):
    code = main([str(part) for part in ("monitor", *argv)])
    captured = capsys.readouterr()
    return code, [json.loads(row) for row in captured.out.splitlines()], captured.err


@pytest.fixture
def two_images(tmp_path):
    folder = tmp_path / "shots"
    folder.mkdir()
    for number in range(2):
        Image.fromarray(striped_photo(300 + number)).save(folder / f"{number}.png")
    return folder


def test_one_process_at_a_time_uses_a_state_file(capsys, line, two_images, tmp_path):
    state = tmp_path / "line.monitor"
    with locked_state(state):
        code, rows, err = _monitor(capsys, line, two_images, "--state", state)
    assert (code, rows) == (1, [])
    assert "another process monitors with this file" in err
    assert _monitor(capsys, line, two_images, "--state", state)[0] == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_lock_does_not_follow_a_planted_link(capsys, line, two_images, tmp_path):
    victim = tmp_path / "victim"
    (tmp_path / ".line.monitor.lock").symlink_to(victim)
    code, _, err = _monitor(capsys, line, two_images, "--state", tmp_path / "line.monitor")
    assert (code, victim.exists()) == (1, False)
    assert "line.monitor: cannot be locked" in err


def test_a_full_disk_hides_no_verdict(capsys, monkeypatch, line, two_images, tmp_path):
    def full(*_):
        raise MonitorError("line.monitor: cannot be written (No space left on device)")

    monkeypatch.setattr(monitor, "write_state", full)
    code, rows, err = _monitor(capsys, line, two_images, "--state", tmp_path / "line.monitor")
    assert (code, [row["monitor"]["images"] for row in rows]) == (1, [1, 2])
    assert err.count("No space left") == 1


def test_an_image_whose_map_cannot_be_written_is_judged_all_the_same(
    capsys, line, two_images, tmp_path
):
    (tmp_path / "maps" / "0.png.heatmap.png").mkdir(parents=True)
    options = ("--state", tmp_path / "line.monitor", "--maps", tmp_path / "maps")
    code, rows, _ = _monitor(capsys, line, two_images, *options)
    assert (code, ["error" in row for row in rows]) == (1, [True, False])
    assert [row["monitor"]["images"] for row in rows] == [1, 2]


def test_monitor_writes_what_score_writes(capsys, line, two_images, tmp_path):
    asked = ("--maps", tmp_path / "maps", "--csv", tmp_path / "scores.csv", "--regions")
    state = ("--state", tmp_path / "line.monitor")
    code, rows, err = _monitor(capsys, line, two_images, *state, *asked)
    assert code == 0, err
    assert all({"monitor", "regions", "map"} <= row.keys() for row in rows)
    assert len(list((tmp_path / "maps").iterdir())) == 2
    assert (tmp_path / "scores.csv").read_text().count("\n") == 3
