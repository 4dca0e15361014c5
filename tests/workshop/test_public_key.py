"""Laws of `--public-key`: commands that read an artifact take it as its owner signed it only."""

import shutil

import pytest
from PIL import Image

from artifact_factory import make_artifact, striped_photo, tiny_config, write_photos
from patchcore_build.cli.main import main
from patchcore_build.signing import sign_artifact


@pytest.fixture
def commands(signed, tmp_path):
    """Every command that takes an artifact, each with a folder that it may make."""
    dataset = tmp_path / "dataset"
    good = dataset / "stripes" / "test" / "good"
    good.mkdir(parents=True)
    Image.fromarray(striped_photo(50)).save(good / "0.png")

    def arguments(artifact):
        output = str(tmp_path / "made")
        return {
            "merge": ["merge", artifact, artifact, "--output", output],
            "merge, its second": ["merge", str(signed), artifact, "--output", output],
            "index": ["index", artifact, "--kind", "exact", "--output", output],
            "advise": ["advise", artifact],
            "evaluate": ["evaluate", artifact, "--dataset", str(dataset), "--output", output],
        }

    return arguments


NAMES = ("merge", "merge, its second", "index", "advise", "evaluate")


@pytest.mark.parametrize("name", NAMES)
def test_an_artifact_without_a_signature_is_refused(
    name, commands, tiny_artifact, keys, tmp_path, capsys
):
    unsigned = str(shutil.copytree(tiny_artifact, tmp_path / "unsigned"))
    assert main([*commands(unsigned)[name], "--public-key", str(keys / "public.pem")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert "unsigned/SHA256SUMS.sig: " in line
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", NAMES)
def test_an_artifact_that_another_key_signed_is_refused(
    name, commands, signed, keys, tmp_path, capsys
):
    assert main([*commands(str(signed))[name], "--public-key", str(keys / "other.pem")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "SHA256SUMS.sig: expected a signature of SHA256SUMS by" in line
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("merge")])
def test_an_artifact_that_the_key_signed_is_taken(name, commands, signed, keys):
    assert main([*commands(str(signed))[name], "--public-key", str(keys / "public.pem")]) == 0


def test_two_artifacts_that_the_key_signed_are_merged(signed, keys, tmp_path):
    photos = write_photos(tmp_path / "photos", 8)
    second = make_artifact(tmp_path / "line2", photos, tiny_config())
    sign_artifact(second, keys / "private.pem")
    command = ["merge", str(signed), str(second), "--output", str(tmp_path / "both")]
    assert main([*command, "--public-key", str(keys / "public.pem")]) == 0
    assert (tmp_path / "both" / "manifest.json").is_file()


def test_a_file_that_scoring_does_not_use_is_checked_against_the_signed_sums(
    signed, keys, tmp_path, capsys
):
    (signed / "features.mindir").write_bytes(b"altered")
    command = ["index", str(signed), "--kind", "exact", "--output", str(tmp_path / "made")]
    assert main([*command, "--public-key", str(keys / "public.pem")]) == 1
    assert "features.mindir: altered" in capsys.readouterr().err
