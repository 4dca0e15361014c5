"""Laws of the contract: artifacts/FORMAT.md and the packages' metadata agree with the code."""

import dataclasses
import itertools
import re
import struct
import types
import typing
from typing import Literal

import numpy as np
import onnx
import pytest
from PIL import Image

import patchcore_build
import patchcore_runtime
from patchcore_runtime.artifact import folder as artifact
from patchcore_runtime.bank import memory_bank
from patchcore_runtime.image import decode, limits, thumbnails
from patchcore_runtime.manifest import manifest
from patchcore_runtime.search import faiss_file, faiss_index, hnsw_file
from places import ROOT

FORMAT = (ROOT / "artifacts" / "FORMAT.md").read_text(encoding="utf-8")
WORDS = {str: "string", int: "integer", float: "number"}


def _section(title):
    """Return the text under a heading, up to the next heading of the same or a higher rank."""
    start = re.search(rf"^(#+) {re.escape(title)}$", FORMAT, re.MULTILINE)
    assert start, f"FORMAT.md has no section {title}"
    rest = FORMAT[start.end() :]
    end = re.search(rf"^#{{2,{len(start[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def _tables(title):
    """Return the tables of a section, each as a list of rows without header and rule."""
    tables = []
    for is_table, lines in itertools.groupby(
        _section(title).splitlines(), lambda line: line.startswith("|")
    ):
        if is_table:
            rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
            tables.append(rows[2:])
    return tables


def _bare(cell):
    return cell.strip("`")


def _word(hint):
    """Return FORMAT.md's name of a type."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inside)
    if origin is tuple and inside[-1] is Ellipsis:
        if typing.get_origin(inside[0]) is tuple:
            return f"list of {_word(inside[0]).replace('list', 'lists')}"
        is_object = dataclasses.is_dataclass(inside[0])
        return f"list of {inside[0].__name__ if is_object else WORDS[inside[0]] + 's'}"
    if origin is tuple:
        assert len(set(inside)) == 1
        return f"list of {len(inside)} {WORDS[inside[0]]}s"
    if origin is dict:
        return "object"
    if origin is types.UnionType:  # of an optional object
        hint = inside[0]
    return hint.__name__ if dataclasses.is_dataclass(hint) else WORDS[hint]


def _dataclasses(root):
    """Yield a dataclass and the dataclasses of its fields."""
    yield root
    for hint in typing.get_type_hints(root).values():
        inside = [kind for kind in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(kind)]
        for kind in inside:
            yield from _dataclasses(kind)


OBJECTS = list(dict.fromkeys(_dataclasses(manifest.Manifest)))


@pytest.mark.parametrize("cls", OBJECTS, ids=lambda cls: cls.__name__)
def test_each_table_of_the_manifest_is_its_dataclass(cls):
    table = [(_bare(row[0]), row[1]) for row in _tables(cls.__name__)[0]]
    assert table == [(name, _word(hint)) for name, hint in typing.get_type_hints(cls).items()]


def test_every_object_has_a_table_and_every_table_an_object():
    titles = re.findall(r"^### (.+)$", _section("manifest.json"), re.MULTILINE)
    assert sorted(titles) == sorted(cls.__name__ for cls in OBJECTS)


def test_the_table_of_files_is_the_list_of_files():
    rows = [(_bare(row[0]), row[1]) for row in _tables("Folder")[0]]
    assert sorted(name for name, _ in rows) == sorted(artifact.ALL_FILES)
    scoring = [name for name, use in rows if use == "scoring"]
    assert sorted(scoring) == sorted(artifact.RUNTIME_FILES)
    assert f"`{artifact.SHA256SUMS}`" in _section("Folder")


def test_format_and_versions_are_those_of_the_code():
    ranges = {_bare(row[0]): row[2] for row in _tables("Manifest")[0]}
    assert ranges["format"] == f"`{manifest.FORMAT}`"
    assert ranges["format_version"] == str(manifest.FORMAT_VERSION)


def test_the_header_of_the_bank_is_the_struct():
    layout = memory_bank._HEADER.format
    assert f"`{layout}`" in _section("memory_bank.bin")
    sizes = {"8 bytes": 8, "uint32": 4, "uint64": 8, "4 uint32": 16}
    codes = {"8 bytes": "8s", "uint32": "I", "uint64": "Q", "4 uint32": "4I"}
    offset, described = 0, "<"
    rows = _tables("memory_bank.bin")[0]
    for start, kind, _ in rows:
        assert int(start) == offset
        offset += sizes[kind]
        described += codes[kind]
    assert described.replace("III4I", "7I") == layout
    assert rows[0][2] == f"`{memory_bank.MAGIC.decode()}`"
    assert rows[1][2].endswith(f", {memory_bank.VERSION}")
    assert rows[2][2].endswith(f", {memory_bank.ALIGNMENT}")


def test_the_sections_of_the_bank_are_those_of_the_code():
    letters = {"M": 11, "K": 5, "3": 3}
    channels = (13, 17, 19)
    first, *others = _tables("memory_bank.bin")[1]
    assert [_bare(cell) for cell in first[:3]] == ["one for each layer", "<f4", "(M, C_i)"]
    described = [(f"layer {at}", "<f4", (11, of)) for at, of in enumerate(channels)]
    for name, dtype, shape, _ in others:
        sides = _bare(shape).strip("()").split(", ")
        described.append((_bare(name), _bare(dtype), tuple(letters[side] for side in sides)))
    placed = memory_bank.sections(memory_bank.BankShape(11, 5, channels, "float32"))
    assert described == [(part.name, part.dtype, part.shape) for part in placed]


def test_the_header_of_the_graph_is_the_struct():
    assert f"`{hnsw_file.HEADER.format}`" in _section("index.hnsw")
    codes = {"uint64": "Q", "int32": "i", "uint32": "I", "float64": "d"}
    rows = _tables("index.hnsw")[0]
    assert [_bare(row[2]) for row in rows] == list(hnsw_file.FIELDS)
    described = "<" + "".join(codes[kind] for _, kind, _, _ in rows)
    assert described == hnsw_file.HEADER.format
    for place, (offset, *_) in enumerate(rows):
        assert int(offset) == struct.calcsize(described[: place + 1])
    limits = {_bare(row[2]): row[3] for row in rows}
    assert limits["M"] == "m, {} to {}".format(*hnsw_file.LINKS)
    assert limits["ef_construction"] == "{} to {}".format(*hnsw_file.EF_CONSTRUCTION)


def test_the_structs_of_thumbnails_are_those_of_the_code():
    section = _section("thumbnails.bin")
    assert f"`{thumbnails._HEADER.format}`" in section
    assert f"`{thumbnails._ENTRY.format}`" in section
    codes = {"8 bytes": "8s", "uint32": "I"}
    header, entry = _tables("thumbnails.bin")
    assert "<" + "".join(codes[row[1]] for row in header) == thumbnails._HEADER.format
    assert "<" + "".join(codes[row[1]] for row in entry) == thumbnails._ENTRY.format
    assert header[0][2] == f"`{thumbnails.MAGIC.decode()}`"
    assert header[1][2].endswith(f", {thumbnails.VERSION}")
    assert f"no side above {thumbnails.MAX_SIDE_PX}" in section


def test_the_kinds_of_faiss_are_those_of_the_code():
    rows = _tables("index.faiss")[0]
    described = {_bare(row[0]): row[1].rpartition(", ")[2].strip("`").encode() for row in rows}
    assert described == faiss_file.FOURCC
    kinds = {kind for kind, file in artifact.INDEX_FILES.items() if file == artifact.INDEX_FAISS}
    assert set(described) == set(faiss_index.RANKED) == kinds
    searched = {_bare(row[0]): row[2] for row in rows}
    ranked = faiss_index.RANKED["faiss-ivfpq"]
    assert searched["faiss-ivfpq"].endswith(f"; the {ranked} nearest by code")
    text = _section("index.faiss")
    assert f"{2**faiss_file.CODE_BITS}·D finite float32" in text
    assert set(typing.get_args(manifest.IndexKind)) == {"exact", *artifact.INDEX_FILES}


@pytest.mark.parametrize(
    ("section", "file"),
    [("features.onnx and features.mindir", "features.onnx"), ("index.onnx", "index.onnx")],
)
def test_the_signature_of_each_graph_is_the_table(tiny_artifact, section, file):
    for folder in (tiny_artifact, ROOT / "artifacts" / "tiny"):
        text = (folder / "manifest.json").read_text(encoding="utf-8")
        shapes = manifest.parse_manifest(text, str(folder))
        tile, (height, width) = shapes.tiling, shapes.layout.grid
        sides = {"B": "B", "tile_height": tile.tile_height, "tile_width": tile.tile_width, "3": 3}
        sides |= {"h": height, "w": width}
        expected = []
        for name, direction, kind, shape in _tables(section)[0]:
            dims = re.match(r"`\((.*?)\)`", shape)[1].split(", ")
            if _bare(name) == "layers[i].name":
                assert dims == ["B", "C_i", "h/s_i", "w/s_i"]
                expected += [
                    (layer.name, direction, kind, ["B", *layer.shape])
                    for layer in shapes.layout.layers
                ]
            else:
                expected.append((_bare(name), direction, kind, [sides[dim] for dim in dims]))
        graph = onnx.load(folder / file, load_external_data=False).graph
        got = [_signature(value, "input") for value in graph.input]
        got += [_signature(value, "output") for value in graph.output]
        assert got == expected


def test_the_signature_of_the_shortlist_is_the_table():
    """The graph declares only its input; test_index_mindir.py checks the outputs."""
    mind_ir_pb2 = pytest.importorskip(
        "mindspore.train.mind_ir_pb2", reason="reading MindIR takes MindSpore"
    )
    folder = ROOT / "artifacts" / "tiny"
    shapes = manifest.parse_manifest((folder / "manifest.json").read_text("utf-8"), str(folder))
    model = mind_ir_pb2.ModelProto.FromString((folder / "index.mindir").read_bytes())
    columns = sum(shapes.layout.channels) + 4
    (queries,) = model.graph.input
    name, direction, kind, shape = _tables("index.mindir")[0][0]
    assert (_bare(name), direction, kind) == (queries.name.split(":")[1], "input", "float32")
    assert shape == "`(N, D + 4)`"
    (tensor,) = queries.tensor
    assert (list(tensor.dims), tensor.data_type) == ([-1, columns], tensor.FLOAT)
    rows = sum(block.dims[1] for block in model.graph.parameter)
    assert {block.dims[0] for block in model.graph.parameter} == {columns}
    assert rows == shapes.memory_bank.rows
    assert shapes.index.mindir_candidates == min(8, rows)


def _signature(value, direction):
    kind = value.type.tensor_type
    dims = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
    return value.name, direction, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name, dims


def test_external_data_lies_inside_one_section_of_the_bank(tiny_artifact):
    for folder in (tiny_artifact, ROOT / "artifacts" / "tiny"):
        bank = memory_bank.read_memory_bank(folder / "memory_bank.bin")
        placed = memory_bank.bank_sections(bank)
        graph = onnx.load(folder / "index.onnx", load_external_data=False).graph
        outside = [tensor for tensor in graph.initializer if tensor.external_data]
        assert outside
        for tensor in outside:
            place = {entry.key: entry.value for entry in tensor.external_data}
            assert place["location"] == "memory_bank.bin"
            start, length = int(place["offset"]), int(place["length"])
            assert any(
                part.offset <= start and start + length <= part.offset + part.size
                for part in placed
            )
        features = onnx.load(folder / "features.onnx", load_external_data=False).graph
        assert not any(tensor.external_data for tensor in features.initializer)


def test_limits_of_images_are_those_of_the_code():
    text = _section("Preprocess")
    assert f"{limits.MAX_PIXELS} pixels" in text
    assert f"no side below {limits.MIN_SIDE_PX}" in text
    *first, last = decode.FORMATS
    assert f"{', '.join(first)} and {last}" in text
    assert f"to {manifest.MAX_SIDE_PX}" in _section("Preprocessing")


def _resize_as_written(pixels, size, filter_name):
    """Resize exactly as FORMAT.md, section Preprocess, Resize, defines it."""
    if pixels.shape[1] != size[1]:
        pixels = _resize_side(pixels.swapaxes(0, 1), size[1], filter_name).swapaxes(0, 1)
    return pixels if pixels.shape[0] == size[0] else _resize_side(pixels, size[0], filter_name)


def _cubic(x, a=-0.5):
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a


FILTERS = {
    "bilinear": (1, lambda x: 1 - x),
    "bicubic": (2, _cubic),
    "lanczos": (3, lambda x: np.sinc(x) * np.sinc(x / 3)),
}


def _resize_side(pixels, m, filter_name):
    radius, function = FILTERS[filter_name]
    n = len(pixels)
    s = n / m
    f = max(s, 1.0)
    out = np.empty((m, *pixels.shape[1:]), np.uint8)
    for i in range(m):
        c = (i + 0.5) * s
        first = max(0, int(c - radius * f + 0.5))
        last = min(n, int(c + radius * f + 0.5))
        x = np.abs((np.arange(first, last) - c + 0.5) / f)
        w = np.array([function(value) if value < radius else 0.0 for value in x])
        k = w / w.sum() * 2**22
        k = np.trunc(k + np.copysign(0.5, k)).astype(np.int64)
        total = 2**21 + np.tensordot(k, pixels[first:last].astype(np.int64), axes=1)
        out[i] = np.clip(total >> 22, 0, 255)
    return out


@pytest.mark.parametrize("filter_name", sorted(FILTERS))
@pytest.mark.parametrize("size", [(64, 96), (32, 40), (97, 61), (50, 33), (200, 131)])
def test_the_documented_resize_equals_pillows_to_the_bit(filter_name, size):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 61, 3), dtype=np.uint8)
    resample = Image.Resampling[filter_name.upper()]
    expected = Image.fromarray(pixels).resize(size[::-1], resample)
    assert np.array_equal(_resize_as_written(pixels, size, filter_name), np.asarray(expected))


def test_the_documented_cmyk_formula_equals_pillows():
    ink, black = (half.astype(np.uint8) for half in np.mgrid[:256, :256])
    image = Image.frombytes("CMYK", (256, 256), np.dstack([ink, ink, ink, black]).tobytes())
    n = 255 - black.astype(np.int64)
    t = ink * n + 128
    expected = n - (t // 256 + t) // 256
    assert np.array_equal(np.asarray(decode.read_image(image))[..., 0], expected)


def test_the_golden_artifact_is_whole():
    golden = patchcore_runtime.Artifact.open(ROOT / "artifacts" / "tiny")
    golden.verify()
    names = sorted(path.name for path in golden.folder.iterdir())
    assert names == sorted([*golden.files, artifact.SHA256SUMS])


def _pyproject(path):
    tomllib = pytest.importorskip("tomllib", reason="tomllib comes with Python 3.11")
    return tomllib.loads((ROOT / path).read_text(encoding="utf-8"))


def test_the_version_is_written_once():
    source = "runtime/patchcore_runtime/_version.py"
    (version,) = re.findall(r'^__version__ = "(.+)"$', (ROOT / source).read_text(), re.MULTILINE)
    workshop, runtime = _pyproject("pyproject.toml"), _pyproject("runtime/pyproject.toml")
    for project, path in ((workshop, source), (runtime, "patchcore_runtime/_version.py")):
        assert project["project"]["dynamic"] == ["version"]
        assert project["tool"]["hatch"]["version"] == {"path": path}
    assert patchcore_runtime.__version__ == patchcore_build.__version__ == version
    assert f"patchcore-runtime=={version}" in workshop["project"]["dependencies"]
    runner = (ROOT / "ascend310_infer" / "version.hpp").read_text(encoding="utf-8")
    assert f'kVersion = "{version}"' in runner


def test_the_lean_wheel_needs_three_libraries_and_nothing_else():
    project = _pyproject("runtime/pyproject.toml")["project"]
    names = {re.match(r"[a-z]+", line)[0] for line in project["dependencies"]}
    assert names == {"numpy", "onnxruntime", "pillow"}
    assert len(project["dependencies"]) == 3


@pytest.mark.parametrize("package", [patchcore_runtime, patchcore_build])
def test_the_public_surface_is_true_and_small(package):
    listed = package.__all__
    assert all(getattr(package, name) is not None for name in listed)  # loaded when first used
    helpers = {"TYPE_CHECKING", "Any", "import_module"}
    public = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    } - helpers
    assert public == set(listed)
    assert list(listed) == sorted(set(listed))
    assert len(listed) <= 10
