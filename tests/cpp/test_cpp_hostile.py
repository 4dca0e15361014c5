"""Both programs refuse the same images, self-tests and folders; see test_hostile.py, too."""

import json
import subprocess

import pytest
from PIL import Image

import hostile
from artifact_factory import striped_photo
from cpp_binary import BINARY, needs_binary
from patchcore_runtime import Artifact, ArtifactError, Detector, ImageError
from patchcore_runtime.artifact.folder import FEATURES_MINDIR, RUNTIME_FILES, SELFTEST_FILES
from patchcore_runtime.files.names import shown_path

pytestmark = needs_binary


def _cpp(*arguments):
    command = [str(BINARY), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


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
def test_every_image_that_python_refuses_gets_an_error_line_in_its_place(
    batch, cropped_artifact, tmp_path
):
    files = hostile.images()
    files["strip.png"] = hostile.encoded(Image.new("RGB", (8000, 8)), "PNG")
    for number in range(3):
        photo = Image.fromarray(striped_photo(number))
        files[f"good{number}.png"] = hostile.encoded(photo, "PNG")
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    code, stdout, stderr = _cpp(cropped_artifact, tmp_path, "--batch", batch)
    assert code == 1
    rows = [json.loads(line) for line in stdout.splitlines()]
    assert [row["image"] for row in rows] == [shown_path(tmp_path / name) for name in sorted(files)]
    detector = Detector.load(cropped_artifact, threads=1)
    for name, row in zip(sorted(files), rows, strict=True):
        if name.startswith("good"):
            expected = detector.predict(tmp_path / name).score
            assert row["score"] == pytest.approx(expected, rel=1e-4)
            continue
        with pytest.raises(ImageError):
            detector.predict(tmp_path / name)
        assert row["error"].startswith(row["image"]), row
    assert sum("error" in row for row in rows) == len(files) - 3
    assert stderr.count("patchcore_infer: ") == len(files) - 3
