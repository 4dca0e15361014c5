"""Split training images into folds that keep groups of images together.

names, regex -> a group number for each image; groups, folds -> image numbers of each fold.
All images of one part belong into one fold. A bank that has seen the part would score its other
images too low, and the threshold would be too low as well.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from patchcore_build.errors import DatasetError


def every_image_alone(count: int) -> NDArray[np.int64]:
    """Group numbers (count,) if each image is a group of its own."""
    return np.arange(count)


def check_pattern(pattern: str) -> None:
    """Check a pattern of groups before long work.

    Raises:
        DatasetError: it is no regular expression, or has no group.
    """
    _compile(pattern)


def group_images(names: Sequence[str], pattern: str) -> NDArray[np.int64]:
    """Number the groups of images whose names agree in the first group of a pattern.

    Args:
        names: Paths of the N images below their folder.
        pattern: A regular expression with a group; it must match somewhere in every name.

    Returns:
        Group numbers (N,), from 0 in the order of first appearance.

    Raises:
        DatasetError: the pattern is no regular expression, has no group, or does not match some
            name; or there are fewer than two groups.
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
            f"--groups {shown}: expected a match of its first group in every name, got none in "
            f"{name}"
        )
    return found[1]


def join_equal(groups: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join the groups of equal images, so that no bank has seen a copy of an image that it scores.

    Args:
        groups: Group number of each image, (N,).
        first: Number of the first image that equals each image, (N,); see `Inputs.first_equal`.

    Returns:
        Group numbers (N,), from 0 in the order of first appearance; one group only if all images
        are equal.

    Raises:
        DatasetError: different images are all in one group.
    """
    joined = groups.copy()
    for image in np.flatnonzero(first != np.arange(len(first))):
        ours, theirs = joined[first[image]], joined[image]
        joined[joined == theirs] = ours
    _, places, numbers = np.unique(joined, return_index=True, return_inverse=True)
    if len(places) < 2 <= len(np.unique(first)):
        raise DatasetError(
            f"expected at least two groups of images (one to learn from, one to hold out), got "
            f"{len(np.unique(first))} different images, all in one group with equal images"
        )
    ranks: NDArray[np.int64] = places.argsort().argsort()
    return ranks[numbers.ravel()]


def split_folds(groups: NDArray[np.int64], folds: int, *, seed: int) -> Iterator[NDArray[np.int64]]:
    """Assign whole groups to folds, the largest group first, each to the smallest fold so far.

    Args:
        groups: Group number of each image, (N,), N >= 1.
        folds: Number of folds; with fewer groups than that, each group is a fold.
        seed: Seed of the order among groups of equal size.

    Yields:
        Image numbers of each fold, ascending; no fold is empty.
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
