"""Compare both programs' verdicts: `python … TOOL KIND CORPUS --seconds N`; TOOL is dump_verdicts.

KIND is manifest, sums or network. Mutations of the corpus are judged by both: accepted, or refused
with a message. Verdicts must be the same. Messages are compared, too, except for a JSON parser's
own words; the number of different ones is printed.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np

from fuzz_python import mutate
from onnx_differential import mutated
from patchcore_runtime.artifact.sums import parse_sums
from patchcore_runtime.engine.network import check_network
from patchcore_runtime.engine.onnx_model import read_model
from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.manifest.manifest import parse_manifest

AT_ONCE = 200
KINDS = ("manifest", "sums", "network")
TOKENS = (b"0", b"-1", b"1e5", b"1e400", b"null", b"true", b"[]", b"{}", b'""', b'"a"', b"1.0",
          b"0.5", b"9" * 20, b'"\\ud800"', b'"\\u00e9"', b"NaN", b"[[1]]")  # fmt: skip


def verdict(kind: str, path: Path) -> str:
    """Return "ok", or the refusal of the Python runtime."""
    try:
        if kind == "manifest":
            _manifest(path)
        elif kind == "sums":
            parse_sums(path.read_bytes(), path)
        else:
            check_network(path, read_model(path))
    except ArtifactError as error:
        return str(error)
    return "ok"


def _manifest(path: Path) -> None:
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        raise ArtifactError(f"{path}: not UTF-8") from None
    parse_manifest(text, str(path))


def verdicts_of(tool: Path, kind: str, paths: list[Path]) -> list[str]:
    """Return those of the C++ program, from one process."""
    given = "".join(f"{path}\n" for path in paths)
    done = subprocess.run([tool, kind], input=given, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def mutations(kind: str, corpus: list[bytes], seed: int) -> Callable[[], bytes]:
    """Return a source of damaged files."""
    rng, drawn = Random(seed), np.random.default_rng(seed)  # noqa: S311 inputs, no secrets

    def draw() -> bytes:
        content = rng.choice(corpus)
        if kind == "network":
            return mutated(content, drawn)
        if kind == "manifest" and rng.random() < 0.7:
            return _with_token(content, rng)
        return mutate(content, rng)

    return draw


def _with_token(content: bytes, rng: Random) -> bytes:
    """Put another value in place of one line's, or take, repeat or swap lines."""
    lines = content.split(b"\n")
    place = rng.randrange(len(lines))
    head, colon, value = lines[place].rpartition(b": ")
    kind = rng.randrange(4)
    if kind == 0:
        lines.insert(place, lines[place])
    elif kind == 1:
        del lines[place]
    else:
        comma = b"," if value.endswith(b",") else b""
        lines[place] = head + colon + rng.choice(TOKENS) + comma
    return b"\n".join(lines)


def compare(tool: Path, kind: str, contents: list[bytes], folder: Path) -> tuple[int, int]:
    """Judge some files; return how many were accepted, and how many messages differ.

    Raises:
        AssertionError: the programs do not agree whether a file is accepted.
    """
    paths = []
    for number, content in enumerate(contents):
        paths.append(folder / f"{number}")
        paths[-1].write_bytes(content)
    accepted = different = 0
    for path, theirs in zip(paths, verdicts_of(tool, kind, paths), strict=True):
        ours = verdict(kind, path)
        if (ours == "ok") != (theirs == "ok"):
            raise AssertionError(f"{path}: Python: {ours}; C++: {theirs}")
        accepted += ours == "ok"
        different += ours != theirs and "not JSON" not in ours and "not UTF-8" not in ours
    return accepted, different


def main() -> int:
    """Compare for some seconds; return exit code 0 without a disagreement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tool", type=Path)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("corpus", type=Path, help="folder of valid files")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    corpus = [path.read_bytes() for path in sorted(arguments.corpus.iterdir())]
    draw = mutations(arguments.kind, corpus, arguments.seed)
    end, files, accepted, different = time.monotonic() + arguments.seconds, 0, 0, 0
    while time.monotonic() < end:
        contents = [draw() for _ in range(AT_ONCE)]
        folder = Path(tempfile.mkdtemp(prefix="patchcore-compare-"))  # kept after a finding
        counts = compare(arguments.tool, arguments.kind, contents, folder)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        files += AT_ONCE
        accepted, different = accepted + counts[0], different + counts[1]
    print(
        f"Done {files} files, {accepted} accepted by both, no different verdict, "
        f"{different} messages in other words",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
