"""Both programs refuse the same damaged artifacts and pictures, and say which file and field."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

import hostile
from artifact_factory import striped_photo
from patchcore_runtime import Artifact, ArtifactError, Detector, ImageError
from patchcore_runtime.artifact import FEATURES_MINDIR, RUNTIME_FILES, SELFTEST_FILES

REPOSITORY = Path(__file__).resolve().parents[1]
# `make cpp` builds the first; another build is named by the variable.
BINARY = Path(
    os.environ.get("PATCHCORE_INFER", REPOSITORY / "out" / "host" / "patchcore_infer")
).resolve()

pytestmark = pytest.mark.skipif(
    not BINARY.is_file(), reason=f"{BINARY.name} is not built; `make cpp` builds it"
)
KINDS = ("manifest", "bank", "file")


def _cpp(*arguments):
    command = [str(BINARY), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def _damages(kind, folder):
    if kind == "manifest":
        return hostile.manifest_damages(json.loads((folder / "manifest.json").read_text()))
    return hostile.bank_damages(folder) if kind == "bank" else hostile.file_damages(folder)


def _python_refusal(folder, picture):
    """What the Python runtime says; empty when it scores the picture."""
    try:
        Detector.load(folder, threads=1).predict(picture)
    except ArtifactError as error:
        return str(error)
    return ""


def _wrongs(damage, folder, picture):
    """What is wrong with the refusals of both programs; nothing when nothing is."""
    python = _python_refusal(folder, picture)
    # The engine's search, so that index.onnx is looked at, too.
    code, stdout, stderr = _cpp(folder, picture, "--search", "engine")
    said = {"Python": python, "C++": stderr.removeprefix("patchcore_infer: ").removesuffix("\n")}
    if (code, stdout) != (1, ""):
        yield f"{damage.name}: C++ exits with {code}, says {stdout}{stderr}"
    for program, message in said.items():
        missing = [part for part in damage.named if part not in message]
        if not message or missing or "\n" in message or len(message) > 500:
            yield f"{damage.name}: {program} does not name {missing}: {message!r:.600}"


@pytest.mark.parametrize("kind", KINDS)
def test_every_damaged_artifact_is_refused_by_both_with_file_and_field(kind, own_artifact):
    picture = own_artifact.parent / "photo.png"
    Image.fromarray(striped_photo(30)).save(picture)
    assert _python_refusal(own_artifact, picture) == ""
    assert _cpp(own_artifact, picture, "--search", "engine")[0] == 0
    whole = own_artifact.parent / "whole"
    shutil.copytree(own_artifact, whole)
    wrongs = []
    damages = _damages(kind, whole)
    for damage in damages:
        hostile.apply(damage, own_artifact)
        wrongs += _wrongs(damage, own_artifact, picture)
        shutil.rmtree(own_artifact)
        shutil.copytree(whole, own_artifact)
    assert len(damages) > 20
    assert not wrongs, "\n".join(wrongs)


@pytest.mark.parametrize("name", [*RUNTIME_FILES, *SELFTEST_FILES, FEATURES_MINDIR])
@pytest.mark.parametrize("place", [0, -1])
def test_the_self_test_finds_one_altered_byte_at_either_end_of_any_file(name, place, own_artifact):
    content = bytearray((own_artifact / name).read_bytes())
    content[place] ^= 0x80
    (own_artifact / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=name):
        Artifact.open(own_artifact, verify=False).verify()
    code, stdout, stderr = _cpp(own_artifact, "--selftest")
    assert (code, stdout) == (1, "")
    assert name in stderr
    assert len(stderr.splitlines()) == 1


def test_no_folder_and_a_folder_of_other_things_are_refused_by_both(tmp_path):
    for folder, named in ((tmp_path / "absent", "no such folder"), (tmp_path, "manifest.json: ")):
        with pytest.raises(ArtifactError, match=named):
            Detector.load(folder)
        code, stdout, stderr = _cpp(folder, "photo.png")
        assert (code, stdout) == (1, "")
        assert named in stderr


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about damaged tags
@pytest.mark.parametrize("batch", [1, 4])
def test_every_picture_that_python_refuses_gets_an_error_line_in_its_place(
    batch, cropped_artifact, tmp_path
):
    files = hostile.pictures()
    files["strip.png"] = hostile.encoded(Image.new("RGB", (8000, 8)), "PNG")
    for number in range(3):
        photo = Image.fromarray(striped_photo(number))
        files[f"good{number}.png"] = hostile.encoded(photo, "PNG")
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    code, stdout, stderr = _cpp(cropped_artifact, tmp_path, "--batch", batch)
    assert code == 1
    rows = [json.loads(line) for line in stdout.splitlines()]
    assert [row["image"] for row in rows] == sorted(str(tmp_path / name) for name in files)
    detector = Detector.load(cropped_artifact, threads=1)
    for row in rows:
        if Path(row["image"]).name.startswith("good"):
            expected = detector.predict(row["image"]).score
            assert row["score"] == pytest.approx(expected, rel=1e-4)
            continue
        with pytest.raises(ImageError):
            detector.predict(row["image"])
        assert row["error"].startswith(row["image"]), row
    assert sum("error" in row for row in rows) == len(files) - 3
    assert stderr.count("patchcore_infer: ") == len(files) - 3
