"""Laws of accidents: an artifact is whole or absent, one line gives the reason, no file remains."""

import signal
from contextlib import suppress
from pathlib import Path

import pytest

import faults
from patchcore_runtime.artifact.writing import new_folder

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs /proc, as Linux has it"
)


@pytest.fixture
def place(tmp_path):
    """An empty folder for outputs."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def test_a_killed_fit_leaves_a_whole_artifact_or_none_and_does_not_stop_the_next(place, photos):
    results, _ = faults.kill_fits(place, photos, count=4, seed=1)
    ended = results.pop("ended first", 0)
    assert results.pop("killed") == 4
    assert results.pop("whole", 0) + results.pop("none", 0) == 4 + ended
    expected = {"rerun succeeds": 1, "after the rerun whole": 1, "staging folders left": 0}
    assert results == expected


@pytest.mark.parametrize(("stop", "count"), [(signal.SIGINT, 2), (signal.SIGTERM, 1)])
def test_a_stopped_fit_says_one_line_and_leaves_nothing(stop, count, place, photos):
    """benchmarks/trust stops fits and benchmarks at 50 moments each."""

    def arguments(output):
        return faults.fit_arguments(photos, output / "artifact")

    _, rounds = faults.stop_commands(place, arguments, stop=stop, count=count, seed=2, takes_s=4.0)
    assert [found for _, found in rounds] == [[]] * count


def test_a_killed_process_leaves_a_folder_that_is_removed_but_a_running_one_keeps_its_own(place):
    (place / ".out.partial-dead").mkdir()
    (place / ".out.partial-dead" / "features.onnx").write_bytes(b"x")
    (place / ".other.partial-dead").mkdir()
    with new_folder(place / "out") as first, new_folder(place / "out2"):
        assert not (place / ".out.partial-dead").exists()
        assert (place / ".other.partial-dead").exists()
        with suppress(ZeroDivisionError), new_folder(place / "out"):
            raise ZeroDivisionError  # the second ends early and removes only its own folder
        assert first.exists()
    assert (place / "out").is_dir()


def test_a_link_that_looks_like_a_staging_folder_is_left_alone(place, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").write_text("kept")
    (place / ".out.partial-link").symlink_to(tmp_path / "mine")
    with new_folder(place / "out"):
        pass
    assert (tmp_path / "mine" / "kept").exists()


def test_of_two_fits_to_one_folder_one_wins_whole_and_the_other_says_so_in_one_line(place, photos):
    result = faults.two_fits_at_once(place, photos)
    assert result["codes"] == [0, 1]
    assert result["artifact"] == "whole"
    assert result["left"] == []
    (line,) = result["refusals"]
    assert str(place / "artifact") in line


@pytest.mark.parametrize("size_kib", [16, 64])
def test_a_full_disk_ends_a_fit_in_one_line_and_leaves_nothing(tmp_path, photos, size_kib):
    with faults.small_disk(tmp_path / "disk", size_kib=size_kib) as disk:
        if disk is None:
            pytest.skip("mounting a small tmpfs takes root; run it in a container as root")
        result = faults.fit_on_small_disk(disk, photos)
    assert result["code"] == 1
    assert result["left"] == []
    (line,) = result["refusals"]
    assert "cannot be written (No space left on device)" in line


def test_a_read_only_disk_ends_a_fit_in_one_line(tmp_path, photos):
    with faults.small_disk(tmp_path / "disk", size_kib=64, read_only=True) as disk:
        if disk is None:
            pytest.skip("mounting a read-only tmpfs takes root; run it in a container as root")
        result = faults.fit_on_small_disk(disk, photos)
    assert result["code"] == 1
    (line,) = result["refusals"]
    assert "cannot be written (Read-only file system); name another folder" in line


def test_threads_and_processes_all_get_the_same_bytes(tiny_artifact):
    more_than_images, first = faults.predictions_of_threads(tiny_artifact, threads=8, rounds=6)
    assert more_than_images == 0
    others, alone = faults.predictions_of_processes(tiny_artifact, processes=4, rounds=6)
    assert others == 0
    assert first == alone
    assert len(set(first)) == 6


@needs_proc
def test_predictions_do_not_use_up_memory(tiny_artifact):
    before, after = faults.memory_over_predictions(tiny_artifact, first=200, last=1200)
    assert after - before < 1000, "KiB over a thousand predictions: less than one KiB each"
