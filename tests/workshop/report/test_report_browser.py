"""report.html in a real headless browser: no complaint on the console, pictures really drawn."""

import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from test_report import MANIFEST, _run

from patchcore_build.report.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--hide-scrollbars",
)  # fmt: skip

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium here; Debian's package `chromium` would run it"
)


def _shoot(page, picture, profile, width):
    """Draw a page; returns the screenshot and what the browser wrote on its console."""
    command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", f"--window-size={width},6000"]
    done = subprocess.run(
        [*command, f"--screenshot={picture}", page.as_uri()],
        check=True,
        capture_output=True,
        text=True,
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return np.asarray(Image.open(picture).convert("RGB")), console


@pytest.mark.parametrize("width", [390, 1200], ids=["phone", "desk"])
def test_the_report_is_drawn_without_complaint(tmp_path, width):
    evaluation, gallery = _run(tmp_path / "dataset")
    write_report(tmp_path / "report", evaluation, gallery, MANIFEST)
    page = tmp_path / "report" / "report.html"
    drawn, console = _shoot(page, tmp_path / "whole.png", tmp_path / "profile", width)
    assert console == []
    assert drawn.shape[1] == width
    text = page.read_text(encoding="utf-8")
    broken = text.replace("data:image/jpeg;base64,", "data:image/jpeg;base64,AAAA")
    (tmp_path / "broken.html").write_text(broken, encoding="utf-8")
    without, _ = _shoot(
        tmp_path / "broken.html", tmp_path / "none.png", tmp_path / "profile", width
    )
    colourful = [np.ptp(shot.astype(int), axis=2) > 60 for shot in (drawn, without)]
    # Each picture's views bring thousands of coloured pixels, which broken ones do not.
    assert colourful[0].sum() > colourful[1].sum() + 1000 * len(evaluation.images)


def test_the_console_is_really_heard(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<script>console.error('heard')</script>", encoding="utf-8")
    _, console = _shoot(page, tmp_path / "bad.png", tmp_path / "profile", 400)
    assert any("heard" in line for line in console)
