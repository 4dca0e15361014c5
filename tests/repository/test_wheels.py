"""Laws of the wheels: the same bytes wherever they are built, and a bill of materials."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from places import ROOT

PROJECTS = {"runtime": "runtime/pyproject.toml", "build": "pyproject.toml"}
PINNED = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s;]+)", re.MULTILINE)


def _wheel(source, folder):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (wheel,) = folder.iterdir()
    return wheel


@pytest.mark.parametrize("package", sorted(PROJECTS))
def test_a_wheel_has_the_same_bytes_in_another_folder_at_another_time(package, tmp_path):
    kept = shutil.ignore_patterns("__pycache__", ".venv", "out", "dist", ".git")
    for place in ("one", "another/deeper"):
        shutil.copytree(ROOT, tmp_path / place / "tree", ignore=kept)
    for path in (tmp_path / "another").rglob("*.py"):
        os.utime(path, (10**9, 10**9))
        path.chmod(0o600)
    digests = set()
    for place in ("one", "another/deeper"):
        source = (tmp_path / place / "tree" / PROJECTS[package]).parent
        wheel = _wheel(source, tmp_path / place / "made")
        digests.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize("package", sorted(PROJECTS))
def test_the_bill_of_materials_lists_what_the_lock_pins(package, tmp_path):
    pytest.importorskip("cyclonedx_py", reason="cyclonedx-bom is not installed")
    lock = ROOT / "requirements" / f"{package}-wheel.txt"
    bill = tmp_path / "bill.json"
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", str(lock)]
    project = ["--pyproject", str(ROOT / PROJECTS[package]), "--mc-type", "library"]
    subprocess.run(
        [*command, *project, "--output-reproducible", "-o", str(bill)],
        check=True, capture_output=True,
    )  # fmt: skip
    document = json.loads(bill.read_text())
    assert document["bomFormat"] == "CycloneDX"
    assert document["metadata"]["component"]["name"] == f"patchcore-{package}"
    listed = {(one["name"], one["version"]) for one in document["components"]}
    assert listed == set(PINNED.findall(lock.read_text()))
    assert all(one["externalReferences"][0]["hashes"] for one in document["components"])


def test_the_lock_of_the_lean_wheel_has_its_three_libraries():
    names = {
        name for name, _ in PINNED.findall((ROOT / "requirements/runtime-wheel.txt").read_text())
    }
    assert {"numpy", "onnxruntime", "pillow"} <= names
    assert not names & {"mindspore", "onnx", "torch", "scipy"}
