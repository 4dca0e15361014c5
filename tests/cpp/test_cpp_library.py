"""libpatchcore and the installed folder: a C API that other programs call, wherever it lies."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from artifact_factory import striped_photo, write_sums
from cpp_binary import BINARY, needs_binary
from cpp_runs import rows_of, run
from patchcore_runtime import Detector
from places import ROOT, TINY

BUILD = BINARY.parent
LIBRARY = BUILD / "libpatchcore.so"
HEADER = ROOT / "ascend310_infer" / "capi" / "patchcore.h"
IMAGE = TINY / "selftest.png"
RGB, BGR, GREY = range(3)

pytestmark = [
    needs_binary,
    pytest.mark.skipif(
        not LIBRARY.is_file(), reason="libpatchcore.so is not built; `make cpp` builds it"
    ),
]


class Options(ctypes.Structure):
    """patchcore_options of the header."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("public_key", ctypes.c_char_p),
        ("roi", ctypes.c_char_p),
        ("threshold", ctypes.c_double),
        ("threads", ctypes.c_uint32),
    )


class Verdict(ctypes.Structure):
    """patchcore_verdict of the header."""

    _fields_ = (
        *((name, ctypes.c_double) for name in ("score", "threshold", "p_value", "pixel_threshold")),
        ("peak_y", ctypes.c_size_t),
        ("peak_x", ctypes.c_size_t),
        ("is_anomalous", ctypes.c_int32),
        ("not_this_part", ctypes.c_int32),
    )


HANDLE, TEXT, SIZE = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
SIGNATURES = {
    "version": (TEXT, []),
    "last_error": (TEXT, []),
    "open": (HANDLE, [TEXT, ctypes.POINTER(Options)]),
    "close": (None, [HANDLE]),
    "score_file": (HANDLE, [HANDLE, TEXT]),
    "score_bytes": (HANDLE, [HANDLE, TEXT, SIZE]),
    "score_pixels": (HANDLE, [HANDLE, TEXT, SIZE, SIZE, SIZE, ctypes.c_int]),
    "get_verdict": (None, [HANDLE, ctypes.POINTER(Verdict)]),
    "get_map": (
        ctypes.POINTER(ctypes.c_float),
        [HANDLE, ctypes.POINTER(SIZE), ctypes.POINTER(SIZE)],
    ),
    "free": (None, [HANDLE]),
}


@pytest.fixture(scope="module")
def library():
    """The functions of the library by their names without `patchcore_`."""
    try:
        loaded = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        if "ASan" in str(error) or "libasan" in str(error):
            pytest.skip("a library with ASan cannot be loaded into Python; build the preset host")
        raise
    functions = {}
    for name, (result, arguments) in SIGNATURES.items():
        functions[name] = getattr(loaded, f"patchcore_{name}")
        functions[name].restype, functions[name].argtypes = result, arguments
    return SimpleNamespace(**functions)


@pytest.fixture(scope="module")
def tiny(library):
    detector = library.open(os.fsencode(TINY), None)
    assert detector, library.last_error()
    yield detector
    library.close(detector)


def taken(library, result):
    """Return the verdict and the map of a result, and free it."""
    assert result, library.last_error()
    verdict, height, width = Verdict(), SIZE(), SIZE()
    library.get_verdict(result, ctypes.byref(verdict))
    values = library.get_map(result, ctypes.byref(height), ctypes.byref(width))
    anomaly_map = np.ctypeslib.as_array(values, (height.value, width.value)).copy()
    library.free(result)
    return verdict, anomaly_map


def refusal(library, result):
    assert not result
    message = library.last_error().decode()
    assert len(message.splitlines()) == 1
    return message


def assert_is(found, expected):
    verdict, anomaly_map = found
    assert verdict.score == pytest.approx(expected.score, rel=1e-4)
    assert verdict.threshold == expected.threshold
    assert verdict.pixel_threshold == expected.pixel_threshold
    assert verdict.p_value == pytest.approx(expected.p_value, rel=1e-2, abs=0.1)
    assert (verdict.peak_y, verdict.peak_x) == expected.peak
    assert verdict.is_anomalous == expected.is_anomalous
    assert verdict.not_this_part == (expected.verdict == "not_this_part")
    np.testing.assert_allclose(anomaly_map, expected.anomaly_map, rtol=1e-3, atol=1e-4)


def test_the_library_exports_the_functions_of_its_header_and_nothing_else():
    declared = set(re.findall(r"\b(patchcore_\w+)\(", HEADER.read_text()))
    shown = subprocess.run(
        ["nm", "-D", "--defined-only", LIBRARY], capture_output=True, text=True, check=True
    ).stdout
    assert {line.split()[-1] for line in shown.splitlines()} == declared
    assert declared == {f"patchcore_{name}" for name in SIGNATURES}
    assert len(declared) <= 10


def test_files_bytes_and_pixels_get_pythons_results(library, tiny):
    detector = Detector.load(TINY)
    content = IMAGE.read_bytes()
    expected = detector.predict(IMAGE)
    assert_is(taken(library, library.score_file(tiny, os.fsencode(IMAGE))), expected)
    assert_is(taken(library, library.score_bytes(tiny, content, len(content))), expected)
    assert library.version().decode() == run("--version")[1].split()[1]


@pytest.mark.parametrize("padding", [0, 7])
def test_rows_of_any_layout_and_stride_get_pythons_results(padding, library, tiny):
    rgb = striped_photo(3)
    rgb[10:30, 20:50] = (250, 10, 120)
    grey = np.ascontiguousarray(rgb[..., 0])
    detector = Detector.load(TINY)
    height, width = grey.shape
    for layout, pixels, shown in (
        (RGB, rgb, rgb),
        (BGR, rgb[..., ::-1], rgb),
        (GREY, grey, np.stack([grey] * 3, axis=-1)),
    ):
        rows = np.ascontiguousarray(pixels).reshape(height, -1)
        padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
        stride = padded.shape[1]
        result = library.score_pixels(tiny, padded.tobytes(), height, width, stride, layout)
        assert_is(taken(library, result), detector.predict(shown))


def test_options_are_those_of_the_command(library, tiny_artifact, photos):
    image = photos / "000.png"
    asked = Options(ctypes.sizeof(Options), None, None, 0.5, 1)
    detector = library.open(os.fsencode(tiny_artifact), ctypes.byref(asked))
    verdict, _ = taken(library, library.score_file(detector, os.fsencode(image)))
    library.close(detector)
    (row,) = rows_of(run(tiny_artifact, image, "--threshold", "0.5")[1])
    assert (verdict.threshold, verdict.is_anomalous) == (0.5, row["is_anomalous"])


def test_the_verdict_says_which_image_does_not_show_the_part(library, tiny_artifact):
    detector = library.open(os.fsencode(tiny_artifact), None)
    python = Detector.load(tiny_artifact)
    spoilt = striped_photo(9)
    spoilt[30:50, 50:60] = 255
    found = []
    for pixels in (striped_photo(9), spoilt, np.zeros_like(spoilt)):
        result = library.score_pixels(detector, pixels.tobytes(), 80, 120, 360, RGB)
        verdict, anomaly_map = taken(library, result)
        assert_is((verdict, anomaly_map), python.predict(pixels))
        found.append((verdict.is_anomalous, verdict.not_this_part))
    assert found == [(0, 0), (1, 0), (1, 1)]
    library.close(detector)


def test_a_detector_serves_several_threads_at_once(library, tiny, photos):
    paths = sorted(map(os.fsencode, photos.iterdir())) * 4

    def score(path):
        return taken(library, library.score_file(tiny, path))[0].score

    alone = [score(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(score, paths)) == alone


def test_every_failure_is_null_and_one_line(library, tiny, own_artifact, keys):
    def opened(artifact, **members):
        options = Options(**{"size": ctypes.sizeof(Options), **members})
        return library.open(artifact and os.fsencode(artifact), ctypes.byref(options))

    def scored(height, width, stride, layout=RGB):
        return library.score_pixels(tiny, bytes(1024), height, width, stride, layout)

    (own_artifact / "features.onnx").write_bytes(b"no graph")
    write_sums(own_artifact)
    for failing, expected in (
        (lambda: opened(None), "artifact: expected one, got NULL"),
        (lambda: opened("missing"), "missing"),
        (lambda: opened(own_artifact), "features.onnx"),
        (lambda: opened(TINY, size=8), "options.size: expected"),
        (lambda: opened(TINY, threshold=-1.0), "expected"),
        (lambda: opened(TINY, roi=b"missing.png"), "missing.png"),
        (lambda: opened(TINY, public_key=os.fsencode(keys / "public.pem")), "sign"),
        (lambda: library.score_file(None, b"x.png"), "detector: expected one, got NULL"),
        (lambda: library.score_file(tiny, None), "path: expected one, got NULL"),
        (lambda: library.score_file(tiny, b"missing.png"), "missing.png: no such file"),
        (lambda: library.score_bytes(tiny, b"junk", 4), "not a readable image"),
        (lambda: library.score_bytes(tiny, None, 4), "bytes: expected one, got NULL"),
        (lambda: library.score_pixels(tiny, None, 8, 8, 24, RGB), "pixels: expected one, got NULL"),
        (lambda: scored(8, 8, 23), "stride: expected at least 24"),
        (lambda: scored(8, 8, 24, 7), "layout: expected 0"),
        (lambda: scored(7, 8, 24), "expected at least 8 x 8 px"),
        (lambda: scored(2**40, 2**40, 2**42), "expected at most"),
    ):
        assert expected in refusal(library, failing())
    library.close(None)
    library.free(None)


def test_errors_belong_to_the_thread_that_made_them(library, tiny):
    refusal(library, library.score_file(tiny, b"mine.png"))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(library.last_error).result() == b""
    assert b"mine.png" in library.last_error()


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The installed folder, moved away from where it was installed."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed; `make cpp` installs it")
    first = tmp_path_factory.mktemp("first") / "patchcore"
    command = ["cmake", "--install", BUILD, "--prefix", first]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return shutil.move(first, tmp_path_factory.mktemp("second") / "moved")


def test_the_installed_folder_runs_where_it_was_moved_to_with_no_environment(installed):
    program = installed / "bin" / "patchcore_infer"
    done = subprocess.run(
        [program, TINY, IMAGE], env={}, cwd="/", capture_output=True, text=True, check=True
    )
    assert rows_of(done.stdout) == rows_of(run(TINY, IMAGE)[1])
    assert {path.name for path in installed.iterdir()} >= {"bin", "lib", "include", "examples"}
    assert (installed / "README.md").is_file()
    assert (installed / "LICENSE").is_file()


def test_the_installed_files_use_the_libraries_beside_them(installed):
    for path in (installed / "bin" / "patchcore_infer", installed / "lib" / "libpatchcore.so"):
        found = subprocess.run(["ldd", path], env={}, capture_output=True, text=True, check=True)
        (line,) = (one for one in found.stdout.splitlines() if "libonnxruntime" in one)
        place = (path.parent / line.split()[2]).resolve()
        assert place == (installed / "lib" / "libonnxruntime.so.1").resolve()
        dynamic = subprocess.run(
            ["readelf", "-d", path], capture_output=True, text=True, check=True
        ).stdout
        (paths,) = re.findall(r"\(RUNPATH\).*\[(.*)\]", dynamic)
        assert all(part.startswith("$ORIGIN") for part in paths.split(":"))


@pytest.mark.parametrize("standard", ["c99", "c++11"])
def test_the_example_in_c_compiles_without_warnings_and_scores(standard, installed, tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is installed; apt-get install gcc on Debian")
    language = "c++" if standard.startswith("c++") else "c"
    subprocess.run(
        [
            compiler, "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-pedantic",
            "-Werror", installed / "examples" / "example.c", "-I", installed / "include",
            "-x", "none", "-L", installed / "lib", "-lpatchcore",
            f"-Wl,-rpath,{installed / 'lib'}", "-o", tmp_path / "example",
        ],
        check=True,
    )  # fmt: skip
    done = subprocess.run(
        [tmp_path / "example", TINY, IMAGE, "missing.png"],
        env={}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    (row,) = rows_of(run(TINY, IMAGE)[1])
    assert (done.returncode, done.stderr) == (1, "missing.png: no such file\n")
    score = f"score {row['score']:.6f} of {row['threshold']:.6f}"
    assert done.stdout.startswith(f"{IMAGE}: {row['verdict'].replace('_', ' ')}, {score}")


def test_the_example_in_python_scores_without_any_package(installed):
    done = subprocess.run(
        [
            sys.executable, "-I", "-S", installed / "examples" / "example.py",
            installed / "lib" / "libpatchcore.so", TINY, IMAGE,
        ],
        env={}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (row,) = rows_of(run(TINY, IMAGE)[1])
    verdict = row["verdict"].replace("_", " ")
    assert done.stdout == (
        f"{IMAGE}: {verdict}, score {row['score']:.6f} of {row['threshold']:.6f}\n"
    )


def test_a_compiler_that_is_too_old_is_named_in_one_line(tmp_path):
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed; `make cpp` installs it")
    compiler = tmp_path / "g++"
    compiler.write_text('#!/bin/sh\nexec g++ -U__GNUC__ -D__GNUC__=8 "$@"\n')
    compiler.chmod(0o755)
    done = subprocess.run(
        [
            "cmake", "-S", ROOT / "ascend310_infer", "-B", tmp_path / "build",
            f"-DCMAKE_CXX_COMPILER={compiler}",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    (line,) = (one for one in done.stderr.splitlines() if "expected GCC 9" in one)
    assert re.search(r"expected GCC 9 or clang 10, or newer, got GNU 8\.\d.*; install one", line)


def test_pixels_of_a_photograph_equal_its_file(library, tiny, tmp_path):
    photo = striped_photo(9)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    by_file, map_by_file = taken(
        library, library.score_file(tiny, os.fsencode(tmp_path / "photo.png"))
    )
    by_pixels, map_by_pixels = taken(
        library,
        library.score_pixels(tiny, photo.tobytes(), *photo.shape[:2], photo.shape[1] * 3, RGB),
    )
    assert by_file.score == by_pixels.score
    assert (map_by_file == map_by_pixels).all()
