"""Which training images are held out together.

names, regex -> a group number for each image; groups, folds -> image numbers of each fold.
Images of one part belong into one fold: a bank that has seen the part scores its other
photographs too low, and the threshold comes out too low with them.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from patchcore_build.errors import DatasetError


def every_image_alone(count: int) -> NDArray[np.int64]:
    """Group numbers (count,) where no two images belong together."""
    return np.arange(count)


def group_images(names: Sequence[str], pattern: str) -> NDArray[np.int64]:
    """Number the groups of images whose names agree in the pattern's first group.

    Args:
        names: Of the N images, below their folder.
        pattern: A regular expression with a group, searched for in each name; it must be found
            in every one.

    Returns:
        Group numbers (N,), from 0 on in order of first appearance.

    Raises:
        DatasetError: no regular expression, none with a group, a name it is not found in, or
            fewer than two groups.
    """
    compiled = _compile(pattern)
    keys = [_key(compiled, name, pattern) for name in names]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    if len(numbers) < 2:
        raise DatasetError(
            f"--groups {pattern}: expected at least two groups (one to learn from, one to hold "
            f"out), got all {len(names)} images in one"
        )
    return np.array([numbers[key] for key in keys])


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DatasetError(f"--groups {pattern}: expected a regular expression ({error})") from None
    if compiled.groups < 1:
        raise DatasetError(
            rf"--groups {pattern}: expected a group in brackets, for instance '(part\d+)_'"
        )
    return compiled


def _key(pattern: re.Pattern[str], name: str, shown: str) -> str:
    found = pattern.search(name)
    if found is None or found[1] is None:
        raise DatasetError(
            f"--groups {shown}: expected its first group in every name, not found in {name}"
        )
    return found[1]


def split_folds(groups: NDArray[np.int64], folds: int, *, seed: int) -> Iterator[NDArray[np.int64]]:
    """Deal the groups to folds, whole, the largest first, each to the smallest fold so far.

    Args:
        groups: Group number of each image, (N,), N >= 1.
        folds: How many are wanted; never more than there are groups.
        seed: Of the order in which groups of equal size are dealt.

    Yields:
        Image numbers of each fold, ascending; none is empty.
    """
    numbers, sizes = np.unique(groups, return_counts=True)
    shuffled = np.random.default_rng(seed).permutation(len(numbers))
    dealt = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    fold_of = np.empty(len(numbers), np.int64)
    filled = np.zeros(min(folds, len(numbers)), np.int64)
    for group in dealt:
        fold_of[group] = fold = int(filled.argmin())
        filled[fold] += sizes[group]
    of_image = fold_of[np.searchsorted(numbers, groups)]
    for fold in range(len(filled)):
        yield np.flatnonzero(of_image == fold)
