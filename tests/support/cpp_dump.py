"""What `dump_preprocess` of the C++ runner makes of images, for the tests that compare."""

import io
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from patchcore_runtime.errors import ImageError
from places import ROOT

# `make cpp` builds the first; another build is named by the variable.
DUMP = Path(
    os.environ.get("PATCHCORE_DUMP", ROOT / "out" / "host" / "tests" / "dump_preprocess")
).resolve()
needs_dump = pytest.mark.skipif(
    not DUMP.is_file(), reason=f"{DUMP.name} is not built; `make cpp` builds it"
)


def dump(requests):
    """(path, settings or None) -> what C++ made of each: (pixels, placement) or the refusal."""
    lines = []
    for path, settings in requests:
        numbers = () if settings is None else vars(settings).values()
        lines.append("\t".join(map(str, (path, *numbers))) + "\n")
    done = subprocess.run(
        [str(DUMP)], input="".join(lines).encode(), stdout=subprocess.PIPE, check=True
    )
    answers = io.BytesIO(done.stdout)
    return [_answer(answers) for _ in requests]


def _answer(answers):
    word, _, rest = answers.readline().decode().rstrip("\n").partition(" ")
    if word != "ok":
        return rest
    height, width, *placement = map(int, rest.split())
    pixels = np.frombuffer(answers.read(height * width * 3), np.uint8)
    return pixels.reshape(height, width, 3), placement


def attempt(function, *arguments):
    """What a function gives, or the message of its refusal."""
    try:
        return function(*arguments)
    except ImageError as error:
        return str(error)


def random_pixels(rng, height, width):
    """Noise, or black and white only: where a resize overshoots."""
    if rng.random() < 0.5:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return 255 * rng.integers(0, 2, (height, width, 3), dtype=np.uint8)
