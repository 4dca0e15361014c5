"""Laws of `score` and `monitor`: outputs, paths on stdin, exit codes, and one image that fails."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from artifact_factory import striped_photo
from patchcore_runtime import Detector
from patchcore_runtime.cli import outputs, score
from runtime_command import run


@pytest.fixture
def parts(tmp_path):
    """Write a good image, a defect and a larger good image."""
    folder = tmp_path / "parts"
    folder.mkdir()
    defect = striped_photo(31)
    defect[30:40, 50:80], defect[40:50, 50:80] = 0, 255
    Image.fromarray(striped_photo(30)).save(folder / "a.png")
    Image.fromarray(defect).save(folder / "b.png")
    return folder


def _run(capsys, *argv):
    code, out, err = run(capsys, *argv)
    return code, [json.loads(line) for line in out.splitlines()], err


def test_an_anomaly_fails_the_command_only_where_it_is_asked_to(capsys, tiny_artifact, parts):
    assert _run(capsys, "score", tiny_artifact, parts)[0] == 0
    assert _run(capsys, "score", tiny_artifact, parts, "--fail-on-anomaly")[0] == 3
    good = (parts / "a.png", "--fail-on-anomaly")
    assert _run(capsys, "score", tiny_artifact, *good)[0] == 0
    (parts / "c.png").write_bytes(b"junk")
    code, rows, err = _run(capsys, "score", tiny_artifact, parts, "--fail-on-anomaly")
    assert (code, len(rows)) == (1, 3)
    assert "2 images scored, 1 anomalous, 1 refused" in err


@pytest.mark.parametrize("end", [b"\n", b"\0", b"\r\n"])
def test_paths_come_from_stdin(capsys, monkeypatch, tiny_artifact, parts, end):
    names = [bytes(parts / "b.png"), bytes(parts / "a.png"), b""]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(end.join(names))))
    code, rows, _ = _run(capsys, "score", tiny_artifact, "-")
    assert (code, [row["image"][-5:] for row in rows]) == (0, ["b.png", "a.png"])


def test_no_path_on_stdin_is_refused(capsys, monkeypatch, tiny_artifact):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    code, rows, err = _run(capsys, "score", tiny_artifact, "-")
    assert (code, rows) == (1, [])
    assert "expected paths of images on stdin, got none" in err


def test_maps_and_masks_are_those_of_the_result(capsys, tiny_artifact, parts, tmp_path):
    made = tmp_path / "made"
    for kind in ("npy", "png16"):
        asked = ("--maps", made, "--map-format", kind, "--masks", made)
        _, rows, _ = _run(capsys, "score", tiny_artifact, parts, *asked)
    result = Detector.load(tiny_artifact).predict(parts / "b.png")
    stored = np.load(made / "b.png.map.npy")
    np.testing.assert_allclose(stored, result.anomaly_map, rtol=1e-5)
    with Image.open(made / "b.png.map.png") as grey:
        top = 4 * result.heatmap_scale.high
        np.testing.assert_allclose(np.asarray(grey) * top / 65535, stored, atol=top / 65535)
    with Image.open(rows[1]["mask"]) as mask:
        assert np.array_equal(np.asarray(mask), result.mask)
    assert result.mask.shape == (80, 120)
    assert result.mask.any()


def test_a_format_without_maps_is_wrong_usage(capsys, tiny_artifact, parts):
    code, _, err = _run(capsys, "score", tiny_artifact, parts, "--map-format", "npy")
    assert code == 2
    assert "--map-format: expected --maps DIR" in err


@pytest.mark.parametrize("option", ["--maps", "--masks", "--explain"])
def test_an_output_that_is_no_folder_is_refused_before_any_work(
    capsys, monkeypatch, tiny_artifact, parts, option
):
    monkeypatch.setattr(score.Detector, "load", lambda *_, **__: pytest.fail("loaded"))
    for place in (parts / "a.png", "/proc/x"):
        code, rows, err = _run(capsys, "score", tiny_artifact, parts, option, place)
        assert (code, rows) == (1, [])
        assert f"{place}: cannot be written" in err


@pytest.mark.parametrize("failure", [MemoryError(), ValueError("bad\nline"), OSError(28, "full")])
def test_any_failure_of_one_image_is_its_own_row(
    capsys, monkeypatch, tiny_artifact, parts, failure
):
    real = outputs.Outputs.write

    def write(self, detector, image, result, name):
        if name == "a.png":
            raise failure
        return real(self, detector, image, result, name)

    monkeypatch.setattr(outputs.Outputs, "write", write)
    code, rows, err = _run(capsys, "score", tiny_artifact, parts)
    assert (code, ["error" in row for row in rows]) == (1, [True, False])
    assert rows[0]["error"].startswith(str(parts / "a.png"))
    assert len(err.splitlines()) == 2


def test_an_almost_black_image_is_named_in_its_row(capsys, tiny_artifact, tmp_path):
    Image.fromarray(np.full((40, 60), 700, np.uint16)).save(tmp_path / "dark.png")
    _, rows, err = _run(capsys, "score", tiny_artifact, tmp_path / "dark.png")
    assert "16-bit values up to 700 of 65535" in rows[0]["note"]
    assert rows[0]["note"] in err


def test_learn_names_an_almost_black_image_in_one_line(capsys, tiny_artifact, tmp_path):
    Image.fromarray(np.full((40, 60), 700, np.uint16)).save(tmp_path / "dark.png")
    options = ("--json", "--output", tmp_path / "o")
    _, _, err = _run(capsys, "learn", tiny_artifact, tmp_path / "dark.png", *options)
    (line,) = [line for line in err.splitlines() if "16-bit values" in line]
    assert line.startswith(f"patchcore-runtime: {tmp_path / 'dark.png'}: ")
    assert "ImageWarning" not in err
