"""Fixtures shared by the tests: images and tiny artifacts, made once per run."""

import shutil

import pytest

from artifact_factory import make_artifact, tiny_config, write_photos


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder with six good images, 80 x 120."""
    return write_photos(tmp_path_factory.mktemp("tiny") / "photos", 6)


@pytest.fixture(scope="session")
def tiny_artifact(tmp_path_factory, photos):
    """An artifact of the whole frame, 64 x 96; only for reading."""
    return make_artifact(tmp_path_factory.mktemp("artifact") / "stripes", photos, tiny_config())


@pytest.fixture(scope="session")
def cropped_artifact(tmp_path_factory, photos):
    """An artifact of the `paper` recipe, which crops to 64 x 64; only for reading."""
    folder = tmp_path_factory.mktemp("artifact") / "cropped"
    return make_artifact(folder, photos, tiny_config("paper"))


@pytest.fixture
def own_artifact(tmp_path, tiny_artifact):
    """A copy of `tiny_artifact` to damage."""
    return shutil.copytree(tiny_artifact, tmp_path / "stripes")


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """A folder of signing keys; only for reading."""
    from signing_keys import write_keys

    return write_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def signed(own_artifact, keys):
    """A copy of `tiny_artifact`, signed by private.pem, to damage."""
    from patchcore_build.signing import sign_artifact

    sign_artifact(own_artifact, keys / "private.pem")
    return own_artifact
