"""Laws of a private artifact, of sums and of links: what was verified is what is loaded."""

import os
import shutil
from pathlib import Path

import pytest

from patchcore_runtime import Artifact, Detector
from patchcore_runtime.artifact.sums import parse_sums
from patchcore_runtime.cli.main import main
from patchcore_runtime.errors import ArtifactError, ImageError, MonitorError
from patchcore_runtime.image.decode import read_image
from patchcore_runtime.monitor.state import read_state
from places import TINY

DIGEST = b"0" * 64


@pytest.fixture
def own(tmp_path):
    return shutil.copytree(TINY, tmp_path / "bottle")


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_a_private_detector_does_not_see_later_changes_of_the_folder(own, scratch):
    expected = Detector.load(TINY, threads=1).predict(TINY / "selftest.png").score
    detector = Detector.load(own, threads=1, private=True)
    for path in own.iterdir():
        path.chmod(0o600)
        os.truncate(path, path.stat().st_size // 2)
    assert detector.predict(TINY / "selftest.png").score == expected
    (place,) = scratch.iterdir()
    assert place.stat().st_mode & 0o077 == 0
    del detector
    assert not place.exists()


def test_a_file_that_changes_before_it_is_copied_is_refused(own, scratch):
    path = own / "memory_bank.bin"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(ArtifactError, match=r"bottle/memory_bank\.bin: altered"):
        Detector.load(own, private=True)
    assert not list(scratch.iterdir())


def test_a_missing_file_is_named_where_it_should_be(own):
    (own / "features.onnx").unlink()
    with pytest.raises(ArtifactError, match="No such file") as raised:
        Detector.load(own, private=True)
    assert str(own / "features.onnx") in str(raised.value)


def test_a_private_copy_is_always_verified(own):
    with pytest.raises(ValueError, match="expected True with a public_key or a private copy"):
        Artifact.open(own, verify=False, private=True)


@pytest.mark.parametrize("command", ["check", "score", "monitor"])
def test_commands_leave_no_private_copy(command, scratch, tmp_path, capsys):
    image = [] if command == "check" else [str(TINY / "selftest.png")]
    state = ["--state", str(tmp_path / "state")] if command == "monitor" else []
    code = main([command, str(TINY), *image, *state, "--private"])
    assert code in (0, 1), capsys.readouterr()
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("name", ["manifest.json", "SHA256SUMS", "memory_bank.bin", "selftest.png"])
def test_a_link_out_of_the_folder_is_refused_for_every_file(own, name, tmp_path):
    outside = tmp_path / f"outside-{name}"
    shutil.move(own / name, outside)
    (own / name).symlink_to(outside)
    with pytest.raises(ArtifactError, match="expected a file of the folder, got a link to"):
        Artifact.open_whole(own)
    shutil.copy(outside, own / "inside")
    (own / name).unlink()
    (own / name).symlink_to("inside")
    assert Artifact.open_whole(own).manifest


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with pipes")
def test_a_pipe_as_state_file_or_image_is_refused_at_once(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(MonitorError, match=r"pipe: cannot be read \(Not a regular file\)"):
        read_state(path, "digest")
    with pytest.raises(ImageError, match="Not a regular file"):
        read_image(path)


def test_a_file_above_the_limit_is_not_read(tmp_path):
    path = tmp_path / "sparse.jpg"
    with path.open("wb") as file:
        file.truncate(20 * 2**30)
    with pytest.raises(ImageError, match=r"larger than 1073741824 bytes"):
        read_image(path)
    with pytest.raises(MonitorError, match="larger than 16777216 bytes"):
        read_state(path, "digest")


def test_info_takes_a_key_and_refuses_what_it_did_not_sign(tiny_artifact, signed, keys, capsys):
    key = ["--public-key", str(keys / "public.pem")]
    assert main(["info", str(signed), *key]) == 0
    capsys.readouterr()
    assert main(["info", str(tiny_artifact), *key]) == 1
    assert "SHA256SUMS.sig: No such file" in capsys.readouterr().err


def test_an_edit_of_a_signed_artifact_says_that_the_result_is_not_signed(signed, tmp_path, capsys):
    output = tmp_path / "made"
    command = ["forget", str(signed), "--image", "000.png", "--output", str(output)]
    assert main(command) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"patchcore-runtime: {output}: will not be signed, though ")
    assert not (output / "SHA256SUMS.sig").exists()


def test_sums_are_lines_of_one_form():
    text = DIGEST + b"  a b\r\n" + DIGEST + b"  c"
    assert parse_sums(text, Path("SUMS")) == {"a b": DIGEST.decode(), "c": DIGEST.decode()}
    assert parse_sums(b"", Path("SUMS")) == {}
    for line in (b"x", DIGEST + b" a", DIGEST + b"  ", b"A" * 64 + b"  a", DIGEST + b"  a\x0bb"):
        with pytest.raises(ArtifactError, match=r"SUMS: line 2: expected `sha256  file name`"):
            parse_sums(DIGEST + b"  b\n" + line + b"\n", Path("SUMS"))
    with pytest.raises(ArtifactError, match="line 2: a file is listed twice"):
        parse_sums((DIGEST + b"  a\n") * 2, Path("SUMS"))
