"""One module of each program opens files for reading; nothing else does."""

import ast
import re

import pytest

from places import ROOT

PACKAGES = ("runtime/patchcore_runtime", "build/patchcore_build")
READING = {"read_bytes", "read_text", "fromfile", "load", "memmap", "loadtxt", "genfromtxt"}
# What may call a name of READING or open(), and why.
ALLOWED = {
    "runtime/patchcore_runtime/files/regular.py": "it is the opener",
    "runtime/patchcore_runtime/files/locks.py": "locks, which hold nothing",
    "runtime/patchcore_runtime/files/staging.py": "locks on folders",
    "runtime/patchcore_runtime/files/whole.py": "flushes of files that it wrote",
    "runtime/patchcore_runtime/files/cursor.py": "maps a file that the opener opened",
    "runtime/patchcore_runtime/image/decode.py": "Pillow on a file that the opener opened",
    "runtime/patchcore_runtime/image/thumbnails.py": "Pillow on bytes",
    "runtime/patchcore_runtime/explain/heatmap.py": "a table of the package",
    "runtime/patchcore_runtime/cli/terminal.py": "the null device",
    "runtime/patchcore_runtime/engine/onnx_model.py": "a table of the package",
    "runtime/patchcore_runtime/engine/network.py": "a table of the package",
    "build/patchcore_build/report/html.py": "texts of the package",
    "build/patchcore_build/report/image_sheet.py": "Pillow on bytes",
    "build/patchcore_build/storage.py": "scratch files of this process",
    "build/patchcore_build/evaluation/cpp_maps.py": "results of the C++ runner",
    "build/patchcore_build/export/graphs.py": "files that MindSpore has just written",
    "runtime/patchcore_runtime/edit/upgrade.py": "its own staged copy",
    "build/patchcore_build/deploy/fixed_mindir.py": "the artifact's own MindIR, by MindSpore",
    "build/patchcore_build/export/own_graph.py": "files that onnxruntime has just written",
    "build/patchcore_build/export/mindir.py": "files that MindSpore has just written",
    "build/patchcore_build/export/quantization.py": "files that onnxruntime has just written",
    "build/patchcore_build/benchmark/machine.py": "/proc",
    "build/patchcore_build/export/index_mindir.py": "files that MindSpore has just written",
    "build/patchcore_build/coreset/cloud.py": "its own scratch files",
    "build/patchcore_build/weights/download.py": "appends to its own download",
}
CPP_OPENER = "files/regular.cpp"
CPP_WRITER = "files/whole.cpp"  # opens new files, and none for reading
CPP_READING = re.compile(
    r"\b(ifstream|fstream|fopen|freopen|mmap|openat|open)\s*[({<]|\bifstream\b"
)


def readings(source: str) -> list[str]:
    """Return the calls of a module that open or read files."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id == "open":
            found.append("open")
        if isinstance(node.func, ast.Attribute) and node.func.attr in READING:
            owner = ast.unparse(node.func.value)
            found += [node.func.attr] if owner not in OTHER_LOADERS else []
        if isinstance(node.func, ast.Attribute) and node.func.attr == "open":
            found += ["open"] if ast.unparse(node.func.value) not in OTHER_OPENERS else []
    return found


OTHER_OPENERS = {"Artifact", "checkpoint"}
OTHER_LOADERS = {"Detector", "json", "Monitor"}


def python_modules():
    return [path for folder in PACKAGES for path in sorted((ROOT / folder).rglob("*.py"))]


def test_only_the_opener_and_named_exceptions_open_files():
    reading = {
        str(path.relative_to(ROOT))
        for path in python_modules()
        if set(readings(path.read_text(encoding="utf-8"))) - {"wb"}
    }
    writers = {str(p.relative_to(ROOT)) for p in python_modules() if only_writes(p)}
    assert reading - writers <= set(ALLOWED), sorted(reading - writers - set(ALLOWED))


def only_writes(path) -> bool:
    """Return whether every file that a module opens is opened for writing."""
    source = path.read_text(encoding="utf-8")
    calls = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "open"
        and ast.unparse(node.func.value) not in OTHER_OPENERS
    ]
    modes = [
        node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else "r"
        for node in calls
    ]
    others = [name for name in readings(source) if name != "open"]
    return not others and len(calls) == readings(source).count("open") and all(
        mode[0] in "wax" for mode in modes if isinstance(mode, str)
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_every_exception_is_used(name):
    assert readings((ROOT / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "planted",
    ["open('x')", "Path('x').open()", "path.read_bytes()", "np.load(path)", "Image.open(path)"],
)
def test_a_planted_reader_is_found(planted):
    assert readings(planted)


def test_only_the_opener_opens_files_in_cpp():
    sources = ROOT / "ascend310_infer"
    wrong = []
    for path in sorted([*sources.rglob("*.cpp"), *sources.rglob("*.hpp")]):
        name = path.relative_to(sources).as_posix()
        if name.startswith(("tests/", "fuzz/")) or name in (CPP_OPENER, CPP_WRITER):
            continue
        wrong += [name for line in path.read_text().splitlines() if CPP_READING.search(line)]
    assert not wrong
    assert CPP_READING.search((sources / CPP_OPENER).read_text())
