"""JSON text -> frozen dataclasses; missing, unknown, repeated and out-of-range fields are refused.

Two programs must not interpret one file differently. Everything that JSON readers treat differently
is therefore refused (RFC 8259, sections 4 and 6). The number of values and their depth are limited
before anything is built, so that a text costs time and memory in proportion to its length.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeVar

from patchcore_runtime.errors import ArtifactError

__all__ = ["build", "check", "parse_json"]

MOST_VALUES = 2**20  # brackets, braces and commas of a text, counted in strings, too
MOST_DEPTH = 200

_T = TypeVar("_T")

OPTIONAL = {"optional": True}  # metadata of a field with a default that a file may leave out


def parse_json(text: str) -> Any:
    """Parse a JSON text; refuse numbers beyond float64, NaN, repeated names and too many values.

    Raises:
        ValueError: the text is not such JSON.
    """
    if sum(text.count(mark) for mark in "[{,") > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values")
    try:
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_parse_float,
            object_pairs_hook=without_repeats,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _check_depth(value)
    if "\\u" in text:
        _check_texts(value)
    return value


def build(
    cls: type[_T],
    data: object,
    where: str,
    *,
    advice: str = "copy the folder again",
) -> _T:
    """Build one dataclass from one JSON object: every field present, typed, in range, none unknown.

    Args:
        cls: Its fields are numbers, strings, literals, tuples, dictionaries and such classes; it
            refuses values by `check`.
        data: The parsed JSON value.
        where: The file, for the message.
        advice: The end of the message: what a user should do.

    Raises:
        ArtifactError: a field is wrong; the message names the field and the reason.
    """
    try:
        return _object(cls, data, "")
    except _FieldError as error:
        raise ArtifactError(f"{where}: {error}; {advice}") from None


class _FieldError(Exception):
    """The path of a field, and the reason why it is refused."""


def _object(cls: type[_T], data: object, path: str) -> _T:
    """Build one dataclass; `path` is the dotted name of the object, empty at the top."""
    if not isinstance(data, dict):
        raise _FieldError(f"{path or 'top'}: expected an object, got {_name(data)}")
    hints = typing.get_type_hints(cls)
    dotted = f"{path}." if path else ""
    for name in data:
        if name not in hints:
            raise _FieldError(f"{dotted}{name}: unknown field")
    values = {}
    optional = {field.name for field in dataclasses.fields(cls) if field.metadata == OPTIONAL}  # type: ignore[arg-type]
    for name, hint in hints.items():
        if name not in data and name in optional:
            continue
        if name not in data:
            raise _FieldError(f"{dotted}{name}: missing")
        values[name] = _convert(hint, data[name], dotted + name)
    try:
        return cls(**values)
    except ValueError as error:
        raise _FieldError(f"{dotted}{error}") from None


def _convert(hint: Any, value: object, path: str) -> Any:
    if typing.get_origin(hint) is types.UnionType:  # a file leaves it out, and has no null
        hint = typing.get_args(hint)[0]
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return _object(hint, value, path)  # type: ignore[arg-type]
    if origin is Literal:
        choices = typing.get_args(hint)
        _expect(value in choices, path, f"one of {choices}", value)
        return value
    if origin is tuple:
        return _convert_tuple(hint, value, path)
    if origin is dict:
        _expect(isinstance(value, dict), path, "an object", value)
        for item in _all_items(value):
            is_number = isinstance(item, int)
            _expect(not is_number or math.isfinite(_finite(item)), path, "finite numbers", item)
        return value
    if hint is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        _expect(is_number, path, "a number", value)
        number = _finite(value)  # type: ignore[arg-type]
        _expect(math.isfinite(number), path, "a finite number", value)
        return number
    same = isinstance(value, hint) and not (hint is int and isinstance(value, bool))
    _expect(same, path, f"{hint.__name__}", value)
    return value


def _convert_tuple(hint: Any, value: object, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _FieldError(f"{path}: expected a list, got {_name(value)}")
    kinds = typing.get_args(hint)
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    _expect(len(value) == len(kinds), path, f"{len(kinds)} entries", len(value))
    return tuple(
        _convert(kind, item, f"{path}[{place}]")
        for place, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _finite(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _expect(holds: bool, path: str, expected: str, got: object) -> None:
    if not holds:
        shown = json.dumps(got) if isinstance(got, int | float | str) else _name(got)
        raise _FieldError(f"{path}: expected {expected}, got {shown[:80]}")


def check(holds: bool, field: str, expected: str) -> None:
    """Refuse a value inside a class's `__post_init__`; `build` adds the file and the object's path.

    Raises:
        ValueError: `holds` is false; the message names the field and the expected value.
    """
    if not holds:
        raise ValueError(f"{field}: expected {expected}")


def _name(value: object) -> str:
    return "null" if isinstance(value, types.NoneType) else type(value).__name__


def _refuse_constant(token: str) -> object:
    raise ValueError(f"{token} is not a JSON number")


def _parse_float(token: str) -> float:
    value = float(token)
    if not math.isfinite(value):
        raise ValueError(f"{token[:40]} is larger than float64 can be")
    return value


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse repeated names: some JSON readers take the first value, others the last.

    Raises:
        ValueError: a name is given twice.
    """
    whole: dict[str, Any] = {}
    for name, value in pairs:
        if name in whole:
            raise ValueError(f"{json.dumps(name)[:80]} is given twice")
        whole[name] = value
    return whole


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MOST_DEPTH):
        items = [item for container in level for item in _items(container)]
        level = [item for item in items if isinstance(item, dict | list)]
        if not level:
            return
    raise ValueError("nested too deeply")


def _check_texts(value: object) -> None:
    """Refuse halves of UTF-16 pairs, which no text in UTF-8 can contain."""
    for item in _all_items(value):
        for text in [item] if isinstance(item, str) else item if isinstance(item, dict) else ():
            text.encode()


def _all_items(value: object) -> Iterator[Any]:
    """Yield the value and all values inside it, containers too."""
    left = [value]
    while left:
        item = left.pop()
        yield item
        left.extend(_items(item))


def _items(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
