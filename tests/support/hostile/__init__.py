"""Corrupt artifacts and images that every program has to refuse, in one shared list.

An entry consists of the damage and of the file and field that the refusal has to name. `graphs` has
damages of ONNX files and links, `swaps` has files of other artifacts, `odd_images` has unusual but
valid images, and `trial` runs all of them in monitored programs.
"""

import dataclasses
import io
import json
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from artifact_factory import write_sums
from patchcore_runtime.artifact.folder import RUNTIME_FILES
from patchcore_runtime.bank.memory_bank import BankShape, sections

FREE = ("config", "provenance")  # no program decides by the content of these objects
BANK_HEADER = struct.Struct("<8sIIQ7I")
BANK_FIELDS = (
    "magic", "version", "start", "rows", "neighbours", "bits", "layers",
    "channels0", "channels1", "channels2", "channels3",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Damage:
    """A change of an artifact folder, and the words that its refusal must contain."""

    name: str
    do: Callable[[Path], None]
    named: tuple[str, ...]
    sums: bool = True  # write SHA256SUMS again, as an attacker would
    by_check: bool = False  # every file is valid by itself, so only the self-test finds it


OUT_OF_RANGE = [
    ("preprocess.resize", "squeeze"),
    ("preprocess.filter", "nearest"),
    ("preprocess.height", 31),
    ("preprocess.height", 65),
    ("preprocess.width", 0),
    ("preprocess.width", 97),
    ("preprocess.resize_height", 8193),
    ("preprocess.resize_width", 8193),
    ("preprocess.resize_width", 2**40),
    ("region.kind", "circle"),
    ("region.photo_height", 7),
    ("region.photo_width", 2**23 + 1),
    ("tiling.tile_height", 80),
    ("tiling.tile_height", 48),
    ("tiling.tile_width", 0),
    ("tiling.overlap", 8),
    ("tiling.overlap", 48),
    ("tiling.rows", 2),
    ("tiling.columns", 0),
    ("tiling.columns", 2**40),
    ("features.patch_px", 0),
    ("features.patch_px", 65),
    ("features.patch_px", 24),
    ("features.layers", []),
    ("features.layers[0].name", "layer"),
    ("features.layers[0].name", "layer12345"),
    ("features.layers[0].name", "../layer2"),
    ("features.layers[1].name", "layer2"),
    ("features.layers[0].channels", 0),
    ("features.layers[0].channels", 2**16 + 1),
    ("features.layers[0].stride", 0),
    ("features.layers[0].stride", 2),
    ("features.layers[1].stride", 65),
    ("features.layers[1].stride", 3),
    ("features.upsampling", "bicubic"),
    ("memory_bank.rows", 0),
    ("memory_bank.rows", 2**31),
    ("memory_bank.neighbours", 0),
    ("memory_bank.neighbours", 30),
    ("memory_bank.precision", "float64"),
    ("features.precision", "float16"),
    ("features.precision", "int8"),
    ("features.mindir", "float16"),
    ("index.kind", "faiss"),
    ("index.effort", 1),
    ("index.recall", 0.5),
    ("index.score_change", 0.1),
    ("index.mindir_candidates", 1025),
    ("scoring.image_score", "mean"),
    ("scoring.image_score", "modelzoo"),
    ("scoring.distance", "cosine"),
    ("scoring.map_upsampling", "bicubic"),
    ("scoring.map_border", "zero"),
    ("scoring.sigma_px", 0),
    ("scoring.sigma_px", 1024.5),
    ("calibration.images", -1),
    ("calibration.folds", 0),
    ("calibration.target_fpr", 0),
    ("calibration.target_fpr", 1),
    ("calibration.groups", 0),
    ("calibration.groups", 1000),
    ("calibration.image_threshold", 0),
    ("calibration.image_interval", [1e-9, 1e-8]),
    ("calibration.pixel_interval", [1e8, 1e9]),
    ("calibration.pixel_interval", [0.5]),
    ("calibration.pixel_threshold", 1e9),
    ("calibration.ranks", []),
    ("calibration.ranks", [0, 1, 2, 3, 4, 6]),
    ("calibration.ranks", [1, 2, 2, 3, 4, 6]),
    ("calibration.ranks", [1, 2, 3, 4, 5, 7]),
    ("calibration.ranks", [1, 2.5, 6]),
    ("calibration.image_scores.bias", 0.79),
    ("calibration.image_scores.bias", 1.01),
    ("calibration.image_scores.values", [1.0]),
    ("calibration.map_maxima.values", [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]),
    ("calibration.gate.usual_distance", -1),
    ("calibration.gate.largest_distance", 0),
    ("calibration.gate.usual_rows", 0),
    ("calibration.gate.fewest_rows", -1),
    ("calibration.gate.fewest_rows", 2**30),
    ("calibration.map_maxima.tail.share", 0),
    ("calibration.map_maxima.tail.share", 1.01),
    ("calibration.map_maxima.tail.scale", 0),
    ("calibration.map_maxima.tail.shape", -0.51),
    ("calibration.map_maxima.tail.shape", 0.51),
    ("selftest.layer_magnitudes", [1, 1, 1]),
    ("selftest.layer_magnitudes", [1, 1, 1, -1]),
    ("selftest.layer_magnitudes", [1, 1, 1, "1"]),
    ("monitoring.layers", []),
    ("monitoring.quantiles.layers", []),
    ("monitoring.images", 0),
    ("monitoring.thumbnail", [1.0]),
    ("monitoring.layers[0].spreads", []),
    ("monitoring.layers[0].spreads", [1.0] * 5 + [0.0]),
    ("monitoring.layers[1].spreads", [1.0] * 17),
    ("monitoring.quantiles.warmth", [0.0, 1.0]),
    ("monitoring.quantiles.layers[0]", [1.0] * 32 + [0.0]),
    ("selftest.defect_box", [28, 44, 36]),
    ("selftest.defect_box", [28, 44, 36, 52, 60]),
    ("selftest.defect_box", [28, 44, 65, 52]),
    ("selftest.defect_box", [28, 44, 36, 97]),
    ("selftest.defect_box", [-1, 44, 36, 52]),
    ("selftest.defect_box", [36, 44, 28, 52]),
    ("selftest.defect_box", [28, 44.5, 36, 52]),
    ("selftest.score_tolerance", 0),
    ("selftest.score_tolerance", 0.2),
    ("selftest.map_tolerance", 0),
    ("selftest.map_tolerance", 0.2),
    ("training.images", ["000.png", 1]),
    ("training.thumbnails", "png"),
]
# Objects that a manifest may leave out.
LEFT_OUT = {("calibration", "gate")}
VERSIONS = (0, 99, -1, "1", True, None, 1.5, [1], 10**30)
# A refusal may name the field that this one must match.
ALSO_NAMED = {
    "tiling.tile_height": "tiling",  # then other rows cover the input
    "preprocess.resize_height": "resize_height",
    "features.precision": "features",
    "features.mindir": "mindir",
    "features.patch_px": "",  # then the sides are no multiples of the step
    "features.layers[1].name": "features.layers",
    "features.layers[0].stride": "features.layers",
    "features.layers[1].stride": "",
    "scoring.image_score": "scoring",
    "monitoring.quantiles.layers[0]": "monitoring.quantiles.layers",
}
NO_MANIFEST = ["", "{", "[]", "null", "1", '"x"', "{}", "[" * 100_000, b"\xff\xfe\x00"]
WRONG_TYPES = [None, True, [], {}, "", "text", 1.5, -1, 10**400]


def manifest_damages(document: dict) -> list[Damage]:
    """Return all corruptions of manifest.json that the Python tests know, for one document."""
    damages = [
        _manifest(
            f"{path} is {value!r:.20}", _with(document, path, value), ALSO_NAMED.get(path, path)
        )
        for path, value in [*OUT_OF_RANGE, *(("format_version", value) for value in VERSIONS)]
    ]
    damages += [_text(f"text {text[:9]!r}", text) for text in NO_MANIFEST]
    for path in fields(document):
        dotted = ".".join(path)
        if path not in LEFT_OUT:
            damages.append(_manifest(f"no {dotted}", _without(document, path), path[-1]))
        if isinstance(get(document, path), dict) and path[-1] not in FREE:
            surprise = f"{dotted}.surprise"
            damages.append(_manifest(f"{surprise}", _with(document, surprise, 1), surprise))
        damages += [
            _manifest(f"{dotted} is {wrong!r:.9}", _with(document, dotted, wrong), path[0])
            for wrong in WRONG_TYPES
            if not may_stand(path, get(document, path), wrong)
        ]
    damages.append(_manifest("surprise", {**document, "surprise": 1}, "surprise"))
    text = json.dumps(document)
    sigma = f'"sigma_px": {document["scoring"]["sigma_px"]}'
    damages += [
        _text(f"sigma {token}", text.replace(sigma, f'"sigma_px": {token}'))
        for token in ("NaN", "Infinity", "-Infinity", "1e999")
    ]
    damages.append(
        _text("sigma twice", text.replace(sigma, f'"sigma_px": 9.0, {sigma}'), "sigma_px")
    )
    return damages


def bank_damages(folder: Path) -> list[Damage]:
    """Return corruptions of memory_bank.bin of one valid artifact, with correct checksums."""
    content = (folder / "memory_bank.bin").read_bytes()
    fields = dict(zip(BANK_FIELDS, BANK_HEADER.unpack_from(content), strict=True))
    changes = [{"magic": b"PCMEMBNL"}, {"version": 2}, {"version": 0}, {"start": 128}]
    changes += [{"bits": 16}, {"bits": 8}]
    changes += [
        {field: value}
        for field in ("rows", "channels0", "channels1", "channels2", "neighbours", "layers")
        for value in (0, 60, 2**16, 2**31, 2**32 - 1)
        if fields[field] != value
    ]
    changes += [{"rows": rows} for rows in (2**32, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1)]
    bad = [
        (
            f"header {change}",
            BANK_HEADER.pack(*{**fields, **change}.values()) + content[BANK_HEADER.size :],
        )
        for change in changes
    ]
    bad += [(f"cut to {size}", content[:size]) for size in (0, 1, 8, 39, 40, 63, 64, 100, -64, -1)]
    bad.append(("longer", content + bytes(64)))
    neighbours = -(-(fields["rows"] * fields["neighbours"] * 4) // 64) * 64
    bad += [
        (f"{name} holds {value}", _with_float(content, fields, name, value))
        for name in ("layer 0", "layer 1", "norms")
        for value in (float("nan"), float("inf"), float("-inf"))
    ]
    bad += [
        (f"neighbour {row}", _with_int(content, len(content) - neighbours, row))
        for row in (-1, fields["rows"], 2**31 - 1, -(2**31))
    ]
    return [
        with_bytes(f"memory_bank.bin {name}", "memory_bank.bin", spoilt) for name, spoilt in bad
    ]


def file_damages(folder: Path) -> list[Damage]:
    """Return missing, altered, unlisted and other files, with the old checksums."""
    damages = []
    for name in RUNTIME_FILES:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        damages.append(with_bytes(f"{name} altered", name, bytes(content), sums=False))
        damages.append(with_bytes(f"{name} empty", name, b"", sums=False))
        damages.append(_folder(name))
        damages.append(_unlisted(folder, name))
    damages += [_gone(name) for name in (*RUNTIME_FILES, "SHA256SUMS")]
    damages += [
        with_bytes(f"sums {text[:9]!r}", "SHA256SUMS", text, sums=False)
        for text in (
            b"nonsense\n",
            b"abc  manifest.json\n",
            b"\n",
            b"0" * 66 + b"\n",
            b"\xff\xfe\0",
        )
    ]
    damages += [
        with_bytes(f"features.onnx {text!r}", "features.onnx", text)
        for text in (b"", b"not a graph")
    ]
    return damages


def images() -> dict[str, bytes]:
    """Return name -> content of files that no program may accept as an image."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8))
    files = {
        "empty.png": b"",
        "text.png": b"text",
        "signature.png": b"\x89PNG\r\n\x1a\n",
        "zeros.jpg": bytes(5000),
        "line\nbreak.png": b"text",
        "%s{0}.jpg": b"GIF89a",
        "bomb.png": png(2**31 - 1, 2**31 - 1, bytes(1000)),
        "large.png": png(8193, 8192, bytes(1000)),
        "long.png": png(8192, 8193, bytes(1000)),
        "lines_missing.png": png(100, 100, bytes(500)),
    }
    for kind in ("GIF", "PPM", "ICO", "PDF", "EPS", "TGA", "JPEG2000"):
        files[f"{kind}.png"] = encoded(image, kind)
    for side in ((1, 1), (7, 100), (100, 7)):
        files[f"small{side[0]}x{side[1]}.png"] = encoded(Image.new("RGB", side), "PNG")
    for kind in ("PNG", "JPEG"):
        whole = encoded(image, kind)
        for length in (1, 8, 30, 60, 200, len(whole) // 2, len(whole) * 4 // 5):
            files[f"cut{length}.{kind.lower()}"[:-1] + kind[-1].lower()] = whole[:length]
    return files


def png(width: int, height: int, scanlines: bytes) -> bytes:
    """Encode a PNG by hand, for headers that Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(scanlines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def encoded(image: Image.Image, kind: str) -> bytes:
    """Encode an image as a file of this kind."""
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def apply(damage: Damage, folder: Path) -> None:
    """Corrupt an artifact folder."""
    damage.do(folder)
    if damage.sums:
        write_sums(folder)


def with_bytes(name, file, content, *, named=(), sums=True):
    return Damage(
        name=name,
        do=lambda folder: (folder / file).write_bytes(content),
        named=(file, *named),
        sums=sums,
    )


def _text(name, text, *named):
    content = text if isinstance(text, bytes) else text.encode()
    return with_bytes(f"manifest {name}", "manifest.json", content, named=named)


def _manifest(name, document, *named):
    return _text(name, json.dumps(document), *named)


def _gone(name):
    return Damage(
        name=f"{name} gone", do=lambda folder: (folder / name).unlink(), named=(name,), sums=False
    )


def _folder(name):
    def replace(folder):
        (folder / name).unlink()
        (folder / name).mkdir()

    return Damage(name=f"{name} is a folder", do=replace, named=(name,), sums=False)


def _unlisted(folder, name):
    lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = "".join(line for line in lines if not line.endswith(f"  {name}\n")).encode()
    return with_bytes(f"{name} unlisted", "SHA256SUMS", kept, named=(name,), sums=False)


def _with_float(content, fields, name, value):
    """Return the file with the last number of a section replaced."""
    channels = (fields["channels0"], fields["channels1"])
    shape = BankShape(fields["rows"], fields["neighbours"], channels, "float32")
    (section,) = (part for part in sections(shape) if part.name == name)
    end = section.offset + section.size
    return content[: end - 4] + struct.pack("<f", value) + content[end:]


def _with_int(content, offset, value):
    return content[:offset] + struct.pack("<i", value) + content[offset + 4 :]


def fields(value, path=()):
    """Return the path of every field of a document, objects before their fields."""
    for name, inner in value.items():
        yield (*path, name)
        if isinstance(inner, dict) and name not in FREE:
            yield from fields(inner, (*path, name))


def get(document, path):
    """Return the value at the end of a path."""
    for name in path:
        document = document[name]
    return document


def _with(document, dotted, value):
    changed = json.loads(json.dumps(document))
    *above, last = steps(dotted)
    get(changed, above)[last] = value
    return changed


def steps(dotted):
    """Return the names and places of a path such as `features.layers[0].name`."""
    found = re.findall(r"[^.\[\]]+", dotted)
    return tuple(int(part) if part.isdigit() else part for part in found)


def _without(document, path):
    changed = json.loads(json.dumps(document))
    del get(changed, path[:-1])[path[-1]]
    return changed


def may_stand(path, value, wrong):
    """Return whether a value of the list of wrong values is valid for this field."""
    if isinstance(value, type(wrong)) and not isinstance(value, int | float):
        return True  # any text, list or object
    if isinstance(wrong, float) and isinstance(value, float):
        return True
    # A scale and a tail may begin below zero.
    return path[0] == "calibration" and path[-1] in ("low", "level") and wrong == -1
