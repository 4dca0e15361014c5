"""Laws of the output folder: it appears whole or not at all, whatever fails."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from patchcore_build.errors import DatasetError, OutputError
from patchcore_runtime.artifact.folder import SHA256SUMS, Artifact
from patchcore_runtime.artifact.writing import new_folder
from places import SUPPORT

FULL = Path("/dev/full")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_some(staging):
    (staging / "sub").mkdir()
    (staging / "sub" / "a.bin").write_bytes(b"x" * 100)


def write_then_raise(target, error):
    with new_folder(target) as staging:
        write_some(staging)
        raise error


def write_then_fill_the_disk(target):
    with new_folder(target) as staging:
        write_some(staging)
        with FULL.open("wb", buffering=0) as full:
            full.write(b"x")


def test_the_folder_appears_with_everything_in_it_and_nothing_beside_it(tmp_path):
    with new_folder(tmp_path / "out") as staging:
        write_some(staging)
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "sub" / "a.bin").read_bytes() == b"x" * 100
    assert names(tmp_path) == ["out"]


def test_missing_parents_are_made(tmp_path):
    with new_folder(tmp_path / "a" / "b" / "out") as staging:
        write_some(staging)
    assert (tmp_path / "a" / "b" / "out" / "sub").is_dir()


@pytest.mark.parametrize("kind", ["file", "empty folder", "full folder"])
def test_an_existing_target_is_refused_and_unchanged(tmp_path, kind):
    target = tmp_path / "out"
    if kind == "file":
        target.write_text("mine", encoding="utf-8")
    else:
        target.mkdir()
    if kind == "full folder":
        (target / "mine").write_text("mine", encoding="utf-8")
    before = [(path.name, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")]
    with pytest.raises(OutputError, match=r"out: exists already; .*--output"), new_folder(target):
        pytest.fail("the block must not run")
    assert [(path.name, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")] == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, DatasetError, SystemExit])
def test_nothing_is_left_when_the_block_fails(tmp_path, error):
    with pytest.raises(error, match="why"):
        write_then_raise(tmp_path / "parent" / "out", error("why"))
    assert names(tmp_path) == []


def test_existing_parents_remain_when_the_block_fails(tmp_path):
    (tmp_path / "parent").mkdir()
    with pytest.raises(RuntimeError):
        write_then_raise(tmp_path / "parent" / "new" / "out", RuntimeError("why"))
    assert names(tmp_path) == ["parent"]
    assert names(tmp_path / "parent") == []


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, as Linux has it")
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    with pytest.raises(OutputError) as caught:
        write_then_fill_the_disk(tmp_path / "out")
    assert str(caught.value) == (
        f"{tmp_path / 'out'}: cannot be written ({os.strerror(errno.ENOSPC)}); nothing was kept"
    )
    assert names(tmp_path) == []


def test_an_artifact_that_outgrows_the_disk_is_one_line_and_leaves_nothing(tmp_path, photos):
    """A file-size limit acts as a full disk: it stops the real writer in the middle."""
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from artifact_factory import make_artifact, tiny_config\n"
        "from patchcore_build.errors import OutputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try:\n"
        "    make_artifact(Path(sys.argv[1]), Path(sys.argv[2]), tiny_config())\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    target = tmp_path / "here" / "out"
    target.parent.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, target, photos],
        capture_output=True,
        text=True,
        check=False,
        cwd=SUPPORT,
    )
    assert done.returncode == 0, done.stderr
    reason = os.strerror(errno.EFBIG)
    assert done.stdout == f"{target}: cannot be written ({reason}); nothing was kept\n"
    left = [name for name in names(target.parent) if not name.endswith("-scratch")]
    assert left == []


def test_a_parent_that_is_a_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    target = tmp_path / "file" / "out"
    message = r"out: cannot be written \(Not a directory\)"
    with pytest.raises(OutputError, match=message), new_folder(target):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_parent_without_permission_is_refused_in_one_line(tmp_path, mode):
    """A child process drops its privileges, because nothing is refused to a superuser."""
    tmp_path.chmod(mode)
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from patchcore_runtime.artifact.writing import new_folder\n"
        "from patchcore_build.errors import OutputError\n"
        "if os.geteuid() == 0:\n"
        "    os.setresuid(65534, 65534, 65534)\n"
        "try:\n"
        "    with new_folder(Path(sys.argv[1])):\n"
        "        print('ran')\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    target = tmp_path / "out"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, target], capture_output=True, text=True, check=False
        )
    finally:
        tmp_path.chmod(0o700)
    assert done.returncode == 0, done.stderr
    reason = os.strerror(errno.EACCES)
    assert done.stdout == f"{target}: cannot be written ({reason}); nothing was kept\n"


def test_an_artifact_lists_each_of_its_files_once_in_the_form_of_coreutils(tiny_artifact):
    files = Artifact.open(tiny_artifact).files
    assert names(tiny_artifact) == sorted([*files, SHA256SUMS])
    lines = (tiny_artifact / SHA256SUMS).read_text(encoding="utf-8").splitlines()
    assert [line[66:] for line in lines] == sorted(files)
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", SHA256SUMS],
        cwd=tiny_artifact, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
