"""Laws of names in an artifact: any legal file name is learned, listed, explained and forgotten."""

import io
import json
import os
from contextlib import redirect_stderr, redirect_stdout

import pytest
from PIL import Image

from artifact_factory import make_artifact, striped_photo, tiny_config, write_photos
from patchcore_build.data.dataset import list_images
from patchcore_build.data.training_inputs import load_inputs
from patchcore_build.storage import Storage
from patchcore_runtime import Artifact
from patchcore_runtime.cli.main import main
from patchcore_runtime.files.names import shown

ODD = [b"na\xefve", b"line\nbreak", b"=1+1", b"\x1b[31mred", "\u202eright".encode(), b"a\\xef"]


def _run(*argv):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(part) for part in argv])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """An artifact of images with odd names, and the names as they are shown."""
    folder = tmp_path_factory.mktemp("odd")
    photos = write_photos(folder / "photos", len(ODD))
    for path, name in zip(sorted(photos.iterdir()), ODD, strict=True):
        path.rename(photos / os.fsdecode(name + b".png"))
    names = {shown(os.fsdecode(name + b".png")) for name in ODD}
    return make_artifact(folder / "artifact", photos, tiny_config(), thumbnails=True), names


def test_training_images_have_their_shown_names(odd):
    artifact, names = odd
    assert set(Artifact.open(artifact).manifest.training.images) == names
    assert len(names) == len(ODD)
    listed = list_images(artifact.parent / "photos")
    assert {listed.name(path) for path in listed.images} == names


def test_an_odd_image_is_explained_learned_and_forgotten_by_its_shown_name(odd, tmp_path):
    artifact, names = odd
    defect = striped_photo(31)
    defect[30:40, 50:80], defect[40:50, 50:80] = 0, 255
    path = tmp_path / os.fsdecode(b"d\xef\n.png")
    Image.fromarray(defect).save(path)
    code, out, err = _run("score", artifact, path, "--explain", tmp_path / "why")
    assert code == 0, err
    assert {patch["normal_image"] for patch in json.loads(out)["patches"]} <= names
    code, _, err = _run("learn", artifact, path, "--output", tmp_path / "taught")
    assert code == 0, err
    learned = "learned/d\\xef\\x0a.png"
    assert Artifact.open(tmp_path / "taught").manifest.training.images[-1] == learned
    code, out, err = _run(
        "forget", tmp_path / "taught", "--image", learned, "--output", tmp_path / "again"
    )
    assert code == 0, err
    assert f"forgotten: {learned}" in out


def test_a_skipped_image_is_named_without_its_folder(tmp_path):
    """The manifest keeps the line, and must not tell a path of this machine."""
    photos = write_photos(tmp_path / "photos", 2)
    (photos / os.fsdecode(b"broken\xef\n.png")).write_bytes(b"junk")
    storage = Storage(tmp_path, budget_bytes=2**30)
    (line,) = load_inputs(list_images(photos), tiny_config(), storage, skip_bad=True).skipped
    assert line.startswith("broken\\xef\\x0a.png: not a readable image")
    assert str(tmp_path) not in line
