"""An exported file scores in Chromium with WebAssembly what Python scores.

The page is the example of docs/how-to/browser, and nothing comes from another machine.
"""

import json
import re

import numpy as np
import pytest
from PIL import Image

from artifact_factory import make_artifact, striped_photo, tiled_config
from benchmarks.parity.browser import EXAMPLE, WebJob, missing, score_in_browser
from patchcore_build.deploy.one_file import OneFile, export_one_file
from patchcore_runtime.artifact.folder import Artifact
from patchcore_runtime.detector import Detector
from places import ROOT

needs_browser = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@needs_browser
def test_a_browser_gives_scores_and_maps_of_python(photos, cropped_artifact, tmp_path):
    """Rules `paper`, with a crop, and `modelzoo`, with tiles; photographs are resized inside."""
    tiled = make_artifact(tmp_path / "tiled", photos, tiled_config("modelzoo"))
    size = (90, 133)
    paths = []
    for seed in (70, 71):
        photo = striped_photo(seed, size=size)
        photo[30:50, 40:70] = (255, 0, 255) if seed == 71 else photo[30:50, 40:70]
        paths.append(tmp_path / f"{seed}.png")
        Image.fromarray(photo).save(paths[-1])
    jobs, expected = [], []
    for number, folder in enumerate((cropped_artifact, tiled)):
        artifact = Artifact.open(folder)
        target = tmp_path / f"{number}.onnx"
        export_one_file(artifact, target, OneFile(photo_size=size))
        jobs.append(WebJob(model=target, images=paths))
        detector = Detector(artifact, threads=1)
        expected += [detector.predict(path) for path in paths]
    found = score_in_browser(jobs, tmp_path / "profile")
    for got, result in zip(found, expected, strict=True):
        assert got["score"] == pytest.approx(result.score, rel=1e-4)
        assert got["isAnomalous"] == result.is_anomalous
        heat = np.reshape(got["map"], (got["height"], got["width"]))
        atol = 1e-4 * float(result.anomaly_map.max())
        np.testing.assert_allclose(heat, result.anomaly_map, rtol=0, atol=atol)
    assert {result.is_anomalous for result in expected} == {True, False}


@needs_browser
def test_an_image_of_another_size_is_an_error_that_is_heard(tmp_path):
    target, image = tmp_path / "tiny.onnx", tmp_path / "small.png"
    export_one_file(Artifact.open(ROOT / "artifacts" / "tiny"), target, OneFile())
    Image.fromarray(striped_photo(1, size=(40, 40))).save(image)
    with pytest.raises(RuntimeError, match="image"):
        score_in_browser([WebJob(model=target, images=[image])], tmp_path / "profile")


def test_the_version_is_pinned_and_the_page_uses_the_functions_of_the_example():
    folder = ROOT / "tests" / "web"
    (version,) = json.loads((folder / "package.json").read_text())["dependencies"].values()
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    locked = json.loads((folder / "package-lock.json").read_text())["packages"]
    assert locked["node_modules/onnxruntime-web"]["version"] == version
    functions = re.findall(r"export async function (\w+)", (EXAMPLE / "score.js").read_text())
    used = re.search(r"import \{ (.*) \} from", (EXAMPLE / "index.html").read_text())
    assert used is not None
    assert used[1].split(", ") == functions
