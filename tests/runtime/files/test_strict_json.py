"""Laws of strict JSON: every entry has its own type; a refusal ends with the caller's advice."""

from dataclasses import dataclass

import pytest

from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.files.strict_json import build, check


@dataclass(frozen=True, kw_only=True)
class Inner:
    """An object in an object."""

    share: float

    def __post_init__(self) -> None:
        check(0 <= self.share <= 1, "share", "0 to 1")


@dataclass(frozen=True, kw_only=True)
class Outer:
    """One field of every shape that a file has."""

    pair: tuple[int, str]
    many: tuple[float, ...]
    inner: Inner


GOOD = {"pair": [1, "a"], "many": [1, 2.5], "inner": {"share": 0.5}}


def test_each_entry_of_a_tuple_has_the_type_of_its_place():
    assert build(Outer, GOOD, "file") == Outer(
        pair=(1, "a"), many=(1.0, 2.5), inner=Inner(share=0.5)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pair": ["a", 1]}, "pair[0]: expected int, got"),
        ({"pair": [1, 2]}, "pair[1]: expected str, got 2"),
        ({"pair": [1]}, "pair: expected 2 entries, got 1"),
        ({"many": [1, True]}, "many[1]: expected a number, got true"),
        ({"many": 1}, "many: expected a list, got int"),
        ({"inner": {"share": 2}}, "inner.share: expected 0 to 1"),
        ({"inner": {}}, "inner.share: missing"),
        ({"inner": []}, "inner: expected an object, got list"),
        ({"more": 1}, "more: unknown field"),
    ],
)
def test_a_refusal_names_file_and_field_and_ends_with_the_advice(change, message):
    with pytest.raises(ArtifactError) as refusal:
        build(Outer, GOOD | change, "file.json", advice="remove it")
    assert str(refusal.value).startswith(f"file.json: {message}")
    assert str(refusal.value).endswith("; remove it")
