"""Compare both programs' decoders: `python … TOOL --seconds N`; TOOL is dump_preprocess.

Small PNG and JPEG files, whole and damaged, are decoded or preprocessed by both. Each is refused by
both, or has the same pixels. Every second comparison is a whole preprocessing, with a drawn white
level.
"""

import argparse
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path
from random import Random

import numpy as np

import cpp_dump
from image_mutations import draw_jpeg, draw_png, mutated
from patchcore_runtime.image.decode import read_image
from patchcore_runtime.image.preprocess import preprocess
from patchcore_runtime.manifest.manifest import Preprocessing

AT_ONCE = 200
# The two freedoms of FORMAT.md: a stream of a PNG that lacks its end, which libpng refuses, and
# the smoothing of a damaged progressive JPEG, which differs between versions of libjpeg.
NO_END = "Not enough image data"


def draw_file(rng: Random) -> tuple[str, bytes]:
    """Return a suffix and a file; one of eight is whole."""
    suffix, draw = rng.choice([(".png", draw_png), (".jpg", draw_jpeg)])
    content = draw(rng)
    return suffix, content if rng.random() < 0.125 else mutated(content, rng)


def draw_settings(rng: Random) -> Preprocessing | None:
    """Draw how to preprocess; None only decodes."""
    if rng.random() < 0.5:
        return None
    return Preprocessing(
        resize="stretch", resize_height=32, resize_width=48, filter="bilinear", height=32,
        width=48, white_level=rng.choice([1023, 4095, 65535, 65535]),
    )  # fmt: skip


def compare(
    requests: list[tuple[Path, Preprocessing | None]],
) -> tuple[int, int, dict[Path, str]]:
    """Decode files in both programs.

    Returns:
        How many both read alike, how many used a freedom, and the disagreements.
    """
    read, freedom, found = 0, 0, {}
    for (path, settings), theirs in zip(requests, cpp_dump.dump(requests), strict=True):
        ours = cpp_dump.attempt(*_request(path, settings))
        if isinstance(ours, str) or isinstance(theirs, str):
            words = [one if isinstance(one, str) else "read" for one in (ours, theirs)]
            if words[0] == "read" and NO_END in words[1]:
                freedom += 1
            elif "read" in words:
                found[path] = f"Python: {words[0]}; C++: {words[1]}"
            continue
        pixels = ours if settings is None else ours[0]
        if np.array_equal(np.asarray(pixels), theirs[0]):
            read += 1
        elif b"\xff\xc2" in path.read_bytes():
            freedom += 1
        else:
            found[path] = f"{settings}: other pixels"
    return read, freedom, found


def _request(path: Path, settings: Preprocessing | None):
    return (read_image, path) if settings is None else (preprocess, path, settings)


def main() -> int:
    """Compare for some seconds; return exit code 0 without a disagreement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tool", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    cpp_dump.DUMP = arguments.tool.resolve()
    warnings.simplefilter("ignore")
    rng = Random(arguments.seed)  # noqa: S311 inputs, no secrets
    end, files, read, freedom, wrong = time.monotonic() + arguments.seconds, 0, 0, 0, 0
    kept = Path(tempfile.gettempdir()) / "patchcore-findings"
    while time.monotonic() < end:
        folder = Path(tempfile.mkdtemp(prefix="patchcore-compare-"))
        requests = []
        for number in range(AT_ONCE):
            suffix, content = draw_file(rng)
            requests.append((folder / f"{number}{suffix}", draw_settings(rng)))
            requests[-1][0].write_bytes(content)
        *counts, found = compare(requests)
        for path, words in found.items():
            kept.mkdir(exist_ok=True)
            shutil.copy(path, kept / f"{files}-{path.name}")
            print(f"{kept / f'{files}-{path.name}'}: {words}", file=sys.stderr)
        shutil.rmtree(folder)
        files, wrong = files + AT_ONCE, wrong + len(found)
        read, freedom = read + counts[0], freedom + counts[1]
    print(
        f"Done {files} files, {read} read by both to the same pixels, {wrong} disagreements, "
        f"{freedom} about which FORMAT.md lets readers differ",
        file=sys.stderr,
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
