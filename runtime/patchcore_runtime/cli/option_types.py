"""Types of options: text of the command line -> a number in its range, or a clear refusal.

If a type raises ValueError, argparse shows the function's name ("invalid _positive value"). These
types say what was expected and what was given.
"""

import argparse
import math
from collections.abc import Callable


def whole_number(smallest: int) -> Callable[[str], int]:
    """Return a type for whole numbers of `smallest` or more."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None
        if value < smallest:
            raise argparse.ArgumentTypeError(f"expected {smallest} or more, got {value}")
        return value

    return parse


def number(expected: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """Return a type for finite numbers in a range.

    Args:
        expected: The range in words, for the refusal.
        fits: Whether a number lies in the range.
    """

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not fits(value):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return value

    return parse


def names(what: str) -> Callable[[str], tuple[str, ...]]:
    """Return a type for names separated by commas; a repeated name counts once.

    Args:
        what: The kind of names, for the refusal.
    """

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(part for name in text.split(",") if (part := name.strip())))
        if not found:
            raise argparse.ArgumentTypeError(f"expected {what} separated by commas, got {text!r}")
        return found

    return parse
