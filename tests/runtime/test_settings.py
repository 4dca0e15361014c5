"""Laws of settings: a value that does not exist is refused before an artifact is read."""

import pytest

from patchcore_runtime import Detector, PatchCoreError
from patchcore_runtime.errors import SettingError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"search": "fast"}, r"^search: expected auto, exact, pca, got 'fast'$"),
        ({"search": None}, r"^search: expected auto, exact, pca, got None$"),
        ({"threads": 0}, r"^threads: expected a whole number of 1 or more, .* got 0$"),
        ({"threads": -3}, r"^threads: .* got -3$"),
        ({"threads": True}, r"^threads: .* got True$"),
        ({"threads": "2"}, r"^threads: .* got '2'$"),
    ],
)
def test_a_setting_that_does_not_exist_is_refused_first(settings, message, tmp_path):
    with pytest.raises(SettingError, match=message) as caught:
        Detector.load(tmp_path / "no artifact", **settings)
    assert isinstance(caught.value, PatchCoreError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("providers", [(), "CPUExecutionProvider"])
def test_providers_are_a_list_with_a_name(providers, tiny_artifact):
    with pytest.raises(SettingError, match="providers: expected a list of execution providers"):
        Detector.load(tiny_artifact, providers=providers)
