"""Laws of whole files: the old file or the new one, never a partial or temporary file."""

import os

import pytest

from patchcore_runtime.errors import OutputError
from patchcore_runtime.files.whole import write_whole, written_whole


@pytest.mark.parametrize("sync", [False, True])
def test_a_file_is_written_and_replaced(tmp_path, sync):
    path = tmp_path / ("n" * 200 + ".bin")  # near the longest name that file systems take
    for content in (b"first", b"second"):
        write_whole(path, content, sync=sync)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_inside_the_block_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_bytes(b"old")

    def fail():
        with written_whole(path) as unfinished:
            unfinished.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_refused_in_one_line_that_names_the_file(tmp_path):
    path = tmp_path / "absent" / "file.bin"
    with pytest.raises(OutputError) as refusal:
        write_whole(path, b"")
    assert str(refusal.value) == (
        f"{path}: cannot be written (No such file or directory); create the folder or free the disk"
    )


def test_the_mode_is_the_one_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_whole(tmp_path / "whole", b"")
    modes = {(tmp_path / name).stat().st_mode for name in ("plain", "whole")}
    assert len(modes) == 1


def test_a_device_is_never_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="Not a regular file"), written_whole(pipe):
        pass
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
