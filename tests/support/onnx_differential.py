"""Compare the reader of networks with the onnx package: `python … CORPUS --seconds N`.

Any bytes that this reader accepts, onnx must read and write again as the same bytes. Any bytes that
onnx reads and writes again as they are, with the fields of onnx_fields.csv only, this reader must
accept. The mutations know the structure of a message: they change, repeat, move and nest fields.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from patchcore_runtime.engine.onnx_model import _rules, model_bytes, read_model
from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.files.protobuf import varint

PACKED = ("floats", "int32s")
LONGEST_TEXT = 1000


def disagreement(path: Path) -> str | None:
    """Return how the two readers differ about a file, or None."""
    content = path.read_bytes()
    try:
        model = onnx.ModelProto.FromString(content)
        model.DiscardUnknownFields()  # they are hidden, and written again
        theirs = model.SerializeToString(deterministic=True)
    except DecodeError:
        model, theirs = None, None
    try:
        ours = model_bytes(read_model(path, least_bytes=2**40), path.name)
    except ArtifactError as error:
        if model is not None and theirs == content and content and listed(model, "model"):
            return f"onnx reads it, but: {error}"
        return None
    if ours != content or theirs != content:
        return "accepted, but written again as other bytes"
    return None


def listed(message, kind: str) -> bool:
    """Return whether a message has the fields of the table only, as often as it says."""
    rules = _rules()[kind]
    given = {field.number: value for field, value in message.ListFields()}
    if not given.keys() <= rules.keys():
        return False
    for number, rule in rules.items():
        if number not in given:
            if rule.times == "one":
                return False
            continue
        repeated = hasattr(given[number], "append")
        values = given[number] if repeated else [given[number]]
        if rule.times != "many" and repeated and rule.content not in PACKED and len(values) != 1:
            return False
        for value in values:
            if rule.content == "text" and not is_text(value):
                return False
            if rule.content in _rules() and not listed(value, rule.content):
                return False
    return True


def is_text(value: str | bytes) -> bool:
    """Return whether a value is UTF-8 of an accepted length."""
    try:
        content = value if isinstance(value, bytes) else value.encode()
        content.decode()
    except UnicodeError:
        return False
    return len(content) <= LONGEST_TEXT


def fields_of(content: bytes) -> list[tuple[int, int, bytes]]:
    """Split a message into number, wire type and whole bytes of its fields; stop at damage."""
    fields, place = [], 0
    while place < len(content):
        start = place
        tag, place = _number(content, place)
        if tag & 7 == 0:
            _, place = _number(content, place)
        elif tag & 7 == 2:
            length, place = _number(content, place)
            place += length
        else:
            place += {1: 8, 5: 4}.get(tag & 7, 0)
        fields.append((tag >> 3, tag & 7, content[start:place]))
    return fields


def _number(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(content):
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
    return value, place


def mutated(content: bytes, rng: np.random.Generator, depth: int = 0) -> bytes:
    """Change one to three fields of a message, at any depth."""
    fields = fields_of(content)
    for _ in range(int(rng.integers(1, 4))):
        if not fields:
            break
        place = int(rng.integers(len(fields)))
        number, wire, whole = fields[place]
        inner = whole[_number(whole, 0)[1] :]
        inner = inner[_number(inner, 0)[1] :]
        if wire == 2 and depth < 6 and len(inner) < 100_000 and rng.random() < 0.75:
            inside = mutated(inner, rng, depth + 1)
            fields[place] = (number, 2, varint(number << 3 | 2) + varint(len(inside)) + inside)
        elif rng.random() < 0.5:
            _rearrange(fields, place, rng)
        else:
            fields[place] = _rewritten(fields[place], rng)
    return b"".join(whole for _, _, whole in fields)


def _rearrange(fields: list[tuple[int, int, bytes]], place: int, rng: np.random.Generator) -> None:
    kind = int(rng.integers(4))
    if kind == 0:
        fields.insert(place, fields[place])
    elif kind == 1:
        del fields[place]
    elif kind == 2:
        field = fields.pop(place)
        fields.insert(int(rng.integers(len(fields) + 1)), field)
    else:
        fields.sort(key=lambda field: field[0])


def _rewritten(field: tuple[int, int, bytes], rng: np.random.Generator) -> tuple[int, int, bytes]:
    number, wire, whole = field
    tag, rest = varint(number << 3 | wire), whole[_number(whole, 0)[1] :]
    kind = int(rng.integers(5))
    if kind == 0:
        changed = bytearray(whole)
        changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
        return number, wire, bytes(changed)
    if kind == 1:  # bits above 2^32
        return number, wire, varint(number << 3 | wire | 2**35) + rest
    if kind == 2:  # longer than necessary
        return number, wire, tag[:-1] + bytes([tag[-1] | 128, 0]) + rest
    if kind == 3:
        other = int(rng.integers(1, 26))
        return other, wire, varint(other << 3 | wire) + rest
    value = int(rng.choice([0, 1, 7, 127, 128, 2**31, 2**32 + 1, 2**63 - 1]))
    return number, 0, varint(number << 3) + varint(value)


def main() -> int:
    """Fuzz for some seconds; return exit code 0 without a disagreement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, help="folder of .onnx files")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    examples = [path.read_bytes() for path in sorted(arguments.corpus.iterdir())]
    rng = np.random.default_rng(arguments.seed)
    end, runs, accepted = time.monotonic() + arguments.seconds, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        while time.monotonic() < end:
            path.write_bytes(mutated(examples[runs % len(examples)], rng))
            found = disagreement(path)
            if found:
                kept = arguments.corpus.parent / "finding-onnx-differential"
                kept.write_bytes(path.read_bytes())
                print(f"{kept}: {found}", file=sys.stderr)
                return 1
            runs += 1
            accepted += _accepts(path)
    print(f"Done {runs} runs, {accepted} accepted by both, no disagreement", file=sys.stderr)
    return 0


def _accepts(path: Path) -> bool:
    try:
        read_model(path)
    except ArtifactError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
