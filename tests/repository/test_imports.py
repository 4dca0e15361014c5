"""Laws of imports: light at first, one way, and nothing a package does not declare."""

import ast
import importlib.util
import subprocess
import sys

import pytest

from places import ROOT

RUNTIME = ROOT / "runtime" / "patchcore_runtime"
BUILD = ROOT / "build" / "patchcore_build"
HEAVY = ("onnxruntime", "mindspore", "torch", "onnx", "sklearn", "faiss", "hnswlib", "cryptography")


def _loaded(statement, *names):
    """Which of the modules a fresh interpreter has loaded after a statement."""
    program = f"import sys\n{statement}\nprint(*[n for n in {names!r} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1].split()


def _imports(path):
    """Full names of the modules a file imports, wherever in the file, except for type checking."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            # `from package import module` imports the module, too.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _top_level(path):
    return {name.partition(".")[0] for name in _imports(path)}


def test_importing_the_runtime_loads_no_heavy_library():
    assert _loaded("import patchcore_runtime", *HEAVY) == []
    assert _loaded("import patchcore_runtime.cli.main", *HEAVY) == []


def test_the_test_above_can_fail():
    statement = "import patchcore_runtime, onnxruntime"
    assert _loaded(statement, *HEAVY) == ["onnxruntime"]


def test_loading_a_detector_is_what_imports_onnxruntime(tiny_artifact):
    statement = f"from patchcore_runtime import Detector; Detector.load({str(tiny_artifact)!r})"
    assert _loaded(statement, "onnxruntime", "mindspore", "onnx") == ["onnxruntime"]


@pytest.mark.parametrize(
    "command", [[], ["fit"], ["evaluate"], ["index"], ["merge"], ["advise"], ["convert-weights"]]
)
def test_the_help_of_the_workshop_does_not_wait_for_mindspore(command):
    statement = (
        "from patchcore_build.cli.main import main\n"
        f"try:\n    main({[*command, '--help']!r})\nexcept SystemExit as end:\n"
        "    assert end.code == 0"
    )
    assert _loaded(statement, "mindspore", "torch", "sklearn") == []


def test_the_runtime_imports_what_its_wheel_declares_and_nothing_else():
    allowed = {"patchcore_runtime", "numpy", "PIL", "onnxruntime", *sys.stdlib_module_names}
    extras = {
        "search/hnsw_index.py": {"hnswlib"},
        "search/faiss_index.py": {"faiss"},
        "artifact/signature.py": {"cryptography"},
    }  # imported only where they are needed
    modules = {path.relative_to(RUNTIME).as_posix(): path for path in RUNTIME.rglob("*.py")}
    assert modules.keys() >= extras.keys()
    for name, path in modules.items():
        assert _top_level(path) <= allowed | extras.get(name, set()), name


def test_only_one_module_imports_onnxruntime_and_only_when_called():
    users = [path for path in RUNTIME.rglob("*.py") if "onnxruntime" in _top_level(path)]
    assert users == [RUNTIME / "engine" / "session.py"]
    tree = ast.parse(users[0].read_text(encoding="utf-8"))
    assert not any(
        isinstance(node, ast.Import) and node.names[0].name == "onnxruntime" for node in tree.body
    )


def test_importing_has_no_effects(tmp_path):
    program = (
        "import patchcore_runtime, patchcore_runtime.cli.main, patchcore_build.config, threading\n"
    )
    program += "print(threading.active_count())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_named_build_is_no_package():
    assert not (ROOT / "build" / "__init__.py").exists()
    assert importlib.util.find_spec("patchcore_build").origin == str(BUILD / "__init__.py")
