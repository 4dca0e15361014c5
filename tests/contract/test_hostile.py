"""Both programs refuse damaged artifacts and images without a crash, a hang or much memory.

The package `hostile` contains the list; `make trust` runs all of it and measures the times.
"""

import shutil

import numpy as np
import pytest
from PIL import Image

from artifact_factory import striped_photo
from cpp_binary import BINARY, NOT_BUILT
from cpp_dump import dump, needs_dump
from hostile import images
from hostile.cases import KINDS, allowed_mib, damages, outcomes, wrong
from hostile.odd_images import bombs, odd_images
from hostile.trial import SLACK_MIB, CppTrial, PythonTrial
from patchcore_runtime.image.decode import read_image
from patchcore_runtime.image.jpeg_scans import has_too_many_scans

ODD = {name: (content, rgb) for name, content, rgb in odd_images()}


@pytest.fixture(params=["Python", "C++"])
def trial(request, tiny_artifact):
    """Start a program that first scores a good image."""
    if request.param == "C++" and not BINARY.is_file():
        pytest.skip(NOT_BUILT)
    program = PythonTrial() if request.param == "Python" else CppTrial(BINARY)
    good = {"artifact": tiny_artifact, "image": tiny_artifact / "selftest.png"}
    program.measure_good_run(**good)
    outcome = program.run(**good)
    assert (outcome.refusal, outcome.crash) == ("", "")
    assert outcome.grown_mib < SLACK_MIB
    yield program
    if isinstance(program, PythonTrial):
        program.close()


@pytest.mark.parametrize("kind", KINDS)
def test_every_damaged_artifact_is_refused_with_file_and_field(
    kind, trial, tiny_artifact, photos, tmp_path
):
    whole = shutil.copytree(tiny_artifact, tmp_path / "whole")
    listed = damages(kind, whole, photos)
    assert len(listed) > 10
    wrongs, greedy = [], []
    for damage, outcome in outcomes(trial, listed, whole, tmp_path):
        wrongs += filter(None, [wrong(damage, outcome)])
        if outcome.grown_mib > SLACK_MIB:
            greedy.append((damage.name, outcome.grown_mib))
    assert not wrongs, "\n".join(wrongs)
    assert not greedy


def test_bombs_are_refused_or_read_in_little_memory(trial, tiny_artifact, tmp_path):
    for name, content in {**images(), **bombs()}.items():
        path = tmp_path / name
        path.write_bytes(content)
        outcome = trial.run(artifact=tiny_artifact, image=path)
        assert not outcome.crash, (name, outcome)
        assert outcome.grown_mib <= allowed_mib(name, content), (name, outcome)
        if outcome.refusal:
            assert name.replace("\n", " ")[:4] in outcome.refusal


@pytest.mark.parametrize("name", ODD)
def test_an_unusual_valid_image_is_decoded_as_the_format_says(name, tmp_path):
    content, rgb = ODD[name]
    path = tmp_path / name
    path.write_bytes(content)
    assert np.array_equal(np.asarray(read_image(path)), rgb)


@needs_dump
@pytest.mark.parametrize("name", [name for name in ODD if name.endswith((".png", ".jpg"))])
def test_the_cpp_program_reads_unusual_images_alike(name, tmp_path):
    content, rgb = ODD[name]
    path = tmp_path / name
    path.write_bytes(content)
    ((pixels, _),) = dump([(path, None)])
    assert np.array_equal(pixels, rgb)


def test_a_trial_notices_a_crash_a_hang_and_memory(tiny_artifact, tmp_path, monkeypatch):
    """The trial itself is tested with a program that misbehaves."""
    image = tmp_path / "photo.png"
    Image.fromarray(striped_photo(1)).save(image)
    endings = {"kill -SEGV $$": "dies with -11", "exec sleep 30": "hangs", "exit 3": "dies with 3"}
    for script, expected in endings.items():
        program = tmp_path / "program"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        with monkeypatch.context() as patched:
            patched.setattr("hostile.trial.HANG_S", 1.0)
            outcome = CppTrial(program).run(artifact=tiny_artifact, image=image)
        assert outcome.crash == expected
    large = tmp_path / "large.png"
    Image.new("RGB", (6000, 6000)).save(large)
    python = PythonTrial()
    outcome = python.run(artifact=tiny_artifact, image=large)
    python.close()
    assert outcome.grown_mib > 2 * SLACK_MIB


@pytest.mark.parametrize(("scans", "refused"), [(99, False), (100, False), (101, True)])
def test_a_jpeg_may_have_a_hundred_scans(scans, refused):
    table = b"\xff\xc4\x00\x05\xff\xda\x01"  # a segment with content that looks like a marker
    scan = b"\xff\xda\x00\x04\x01\x02data\xff\x00\xff\xd0data\xff"
    content = b"\xff\xd8" + table + scan * scans + b"\xff\xd9" + scan * 500
    assert has_too_many_scans(content) == refused
    assert not has_too_many_scans(b"P" + content)
