"""Laws of strict JSON: every entry has its own type; a refusal ends with the caller's advice."""

from dataclasses import dataclass
from typing import Any

import pytest

from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.files.strict_json import (
    MOST_DEPTH,
    MOST_VALUES,
    build,
    check,
    parse_json,
    without_repeats,
)


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
    free: dict[str, Any]


GOOD = {"pair": [1, "a"], "many": [1, 2.5], "inner": {"share": 0.5}, "free": {}}


def test_each_entry_of_a_tuple_has_the_type_of_its_place():
    assert build(Outer, GOOD, "file") == Outer(
        pair=(1, "a"), many=(1.0, 2.5), inner=Inner(share=0.5), free={}
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
        ({"free": {"a": [{"b": -(10**400)}]}}, "free: expected finite numbers, got -1000"),
        ({"more": 1}, "more: unknown field"),
    ],
)
def test_a_refusal_names_file_and_field_and_ends_with_the_advice(change, message):
    with pytest.raises(ArtifactError) as refusal:
        build(Outer, GOOD | change, "file.json", advice="remove it")
    assert str(refusal.value).startswith(f"file.json: {message}")
    assert str(refusal.value).endswith("; remove it")


class CountedName(str):
    """A name that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other):
        CountedName.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def comparisons(count):
    CountedName.compared = 0
    names = [CountedName(f"name {number}") for number in [*range(count), count - 1]]
    with pytest.raises(ValueError, match=f"name {count - 1}. is given twice"):
        without_repeats([(name, 0) for name in names])
    return CountedName.compared


def test_twice_as_many_names_take_twice_as_many_comparisons_until_the_last_is_refused():
    assert comparisons(4000) <= 2 * comparisons(2000) + 100


@pytest.mark.parametrize("mark", ["[],", "{},", '",",', "0,"])
def test_too_many_values_are_refused_before_anything_is_parsed(mark):
    refused = "[" + mark * MOST_VALUES + "this is not JSON"
    with pytest.raises(ValueError, match=f"more than {MOST_VALUES} values"):
        parse_json(refused)


def test_as_many_values_as_allowed_are_parsed():
    assert len(parse_json("[" + "0," * (MOST_VALUES - 1) + "0]")) == MOST_VALUES


@pytest.mark.parametrize(("before", "after"), [("[", "]"), ('{"a":', "}")])
def test_depth_is_limited(before, after):
    def nested(depth):
        return before * depth + "0" + after * depth

    assert parse_json(nested(MOST_DEPTH))
    for depth in (MOST_DEPTH + 1, 100_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(nested(depth))


@pytest.mark.parametrize("text", [r'"\ud800"', r'{"\udc00": 0}', r'[["a\udfffb"]]'])
def test_half_of_a_utf_16_pair_is_refused(text):
    with pytest.raises(ValueError, match="surrogates not allowed"):
        parse_json(text)


def test_a_pair_of_utf_16_is_one_character():
    assert parse_json(r'"\ud83d\ude00"') == "\U0001f600"
