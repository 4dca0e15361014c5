"""Fuzz the runtime: `python tests/support/fuzz_python.py KIND CORPUS --seconds N`.

KIND is manifest, memory_bank, hnsw, onnx or image. Any bytes must be read, or refused by the
package's own errors in one line. Anything else is a finding, and its input is kept. If atheris is
installed (separate environment: `make fuzz`), coverage guides the fuzzer. Otherwise the corpus is
mutated blindly with a seed, and the output says so.
"""

import argparse
import contextlib
import random
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

try:
    import atheris
except ImportError:
    atheris = None

# The coverage of these imports guides the fuzzer.
with atheris.instrument_imports() if atheris else contextlib.nullcontext():
    from patchcore_runtime.bank.memory_bank import MemoryBank, read_memory_bank
    from patchcore_runtime.engine.network import check_network
    from patchcore_runtime.engine.onnx_model import model_bytes, read_model
    from patchcore_runtime.errors import PatchCoreError
    from patchcore_runtime.image.decode import read_image
    from patchcore_runtime.manifest.manifest import parse_manifest
    from patchcore_runtime.search.hnsw_file import check_hnsw_file

MOST_BYTES = 20_000
KINDS = ("manifest", "memory_bank", "hnsw", "onnx", "image")
Target = Callable[[bytes], None]


def small_bank() -> MemoryBank:
    """Return the bank of the corpus's graphs; fuzz_hnsw.cpp has the same."""
    layer2 = np.arange(14, dtype=np.float32).reshape(7, 2)
    layer3 = -np.arange(21, dtype=np.float32).reshape(7, 3)
    norms = (layer2**2).sum(axis=1) + (layer3**2).sum(axis=1)
    origins, neighbours = np.zeros((7, 3), np.int32), np.arange(7, dtype=np.int32)[:, None]
    return MemoryBank(layers=(layer2, layer3), norms=norms, origins=origins, neighbours=neighbours)


def make_target(kind: str, path: Path) -> Target:
    """Return the function that reads one input, which is first written to `path`."""
    reader = _reader(kind)

    def target(content: bytes) -> None:
        path.write_bytes(content)
        try:
            reader(path)
        except PatchCoreError as error:
            if "\n" in str(error) or len(str(error)) > 1000:
                raise AssertionError(f"not one line: {error!s:.2000}") from error

    return target


def _reader(kind: str) -> Callable[[Path], object]:
    bank = small_bank()
    return {
        "manifest": _parsed,
        "memory_bank": lambda path: _touched(read_memory_bank(path)),
        "hnsw": lambda path: check_hnsw_file(path, bank),
        "onnx": _network,
        "image": lambda path: read_image(path).load(),
    }[kind]


def _parsed(path: Path) -> None:
    manifest = parse_manifest(path.read_bytes().decode("utf-8", "replace"), "fuzz")
    if parse_manifest(manifest.to_json(), "again") != manifest:
        raise AssertionError("a manifest that was taken does not survive writing")


def _network(path: Path) -> None:
    model = read_model(path, least_bytes=2**30)
    if model_bytes(model, path.name) != path.read_bytes():
        raise AssertionError("a model that was taken has other bytes when it is written")
    check_network(path, model)


def _touched(bank: MemoryBank) -> None:
    listed = np.asarray(bank.neighbours)
    if not (np.isfinite(bank.layers[0]).all() and np.isfinite(bank.layers[1]).all()):
        raise AssertionError("a bank that is not finite was taken")
    if listed.min() < 0 or listed.max() >= bank.rows:
        raise AssertionError("a neighbour outside of the bank was taken")


def fix_checksums(content: bytes) -> bytes:
    """Correct the checksum of every PNG chunk, so that the code after the check is reached."""
    fixed, place = bytearray(content), 8
    if fixed[:1] != b"\x89":
        return content
    while place + 12 <= len(fixed):
        (length,) = struct.unpack_from(">I", fixed, place)
        end = place + 8 + length
        if end + 4 > len(fixed):
            break
        struct.pack_into(">I", fixed, end, zlib.crc32(fixed[place + 4 : end]))
        place = end + 4
    return bytes(fixed)


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Apply one to eight blind changes: bits, bytes, extreme numbers, cuts, copies."""
    out = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(len(out) + 1)
        kind = rng.randrange(5)
        if kind == 0 and place < len(out):
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 1 and place < len(out):
            out[place] = rng.randrange(256)
        elif kind == 2:
            number = rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
            out[place : place + 8] = struct.pack("<Q", number)[: rng.choice([2, 4, 8])]
        elif kind == 3:
            del out[place : place + rng.randrange(1, 64)]
        else:
            start = rng.randrange(len(out) + 1)
            out[place:place] = out[start : start + rng.randrange(1, 64)]
    return bytes(out[:MOST_BYTES])


def fuzz_blindly(target: Target, kind: str, corpus: Path, *, seconds: float, seed: int) -> int:
    """Mutate the corpus with a seed; return the number of runs."""
    rng = random.Random(seed)  # noqa: S311 inputs, no secrets
    examples = [path.read_bytes() for path in sorted(corpus.iterdir())]
    end, runs = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        content = mutate(rng.choice(examples), rng)
        content = fix_checksums(content) if kind == "image" else content
        try:
            target(content)
        except BaseException:
            found = corpus.parent / f"finding-{kind}"
            found.write_bytes(content)
            print(f"finding: {found}", file=sys.stderr)
            raise
        runs += 1
    return runs


def fuzz_by_coverage(target: Target, kind: str, corpus: Path, *, seconds: float) -> None:
    """Fuzz with atheris (libFuzzer), which ends the process itself."""

    def mutator(content: bytes, limit: int, _seed: int) -> bytes:
        return fix_checksums(atheris.Mutate(content, limit))

    options = [f"-max_total_time={int(seconds)}", f"-max_len={MOST_BYTES}", "-timeout=30"]
    options += ["-rss_limit_mb=3000", f"-artifact_prefix={corpus.parent}/finding-{kind}-"]
    extra = {"custom_mutator": mutator} if kind == "image" else {}
    atheris.Setup([sys.argv[0], *options, str(corpus)], target, **extra)
    atheris.Fuzz()


def main() -> int:
    """Fuzz one kind; return exit code 0 if the time ended without a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    corpus = arguments.corpus.resolve()
    target = make_target(arguments.kind, corpus.parent / f"input-{arguments.kind}")
    if atheris is not None:
        fuzz_by_coverage(target, arguments.kind, corpus, seconds=arguments.seconds)
        return 0
    print("fuzzing blindly: atheris is not installed here", file=sys.stderr)
    runs = fuzz_blindly(
        target, arguments.kind, corpus, seconds=arguments.seconds, seed=arguments.seed
    )
    print(f"Done {runs} runs in {arguments.seconds:.0f} second(s)", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
