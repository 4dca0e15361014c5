"""Types of options: text of the command line -> a number in its range, or a clear refusal.

argparse names the function of a type that raises ValueError ("invalid _positive value"); these say
what was expected and what came.
"""

import argparse
import math
from collections.abc import Callable


def whole_number(smallest: int) -> Callable[[str], int]:
    """A type for whole numbers of `smallest` or more."""

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
    """A type for finite numbers that fit.

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
    """A type for names with commas between them; a repeated one counts once.

    Args:
        what: What the names are of, for the refusal.
    """

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(part for name in text.split(",") if (part := name.strip())))
        if not found:
            raise argparse.ArgumentTypeError(
                f"expected {what} with commas between them, got {text!r}"
            )
        return found

    return parse
