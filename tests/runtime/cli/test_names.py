"""Laws of names: any legal file name goes through every command, and none can steer a terminal."""

import csv
import io
import json
import os
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from artifact_factory import striped_photo
from patchcore_runtime.cli.main import main
from patchcore_runtime.cli.terminal import SafeText, print_json
from patchcore_runtime.files.names import cell, printable, shown, with_suffix

# Any byte string that Linux takes for a file name, and is not hidden.
LEGAL = st.binary(min_size=1, max_size=40).map(
    lambda raw: b"n" + raw.replace(b"/", b"_").replace(b"\0", b"_")
)
ODD = [
    b"na\xefve",
    b"line\nbreak",
    b"=1+1",
    b"@SUM(A1)",
    b"\x1b[31mred",
    b"\xe2\x80\xaeright",
    b"a\\xef",
]


def _unsafe(text):
    return [c for c in text if ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000]


@given(st.lists(LEGAL, min_size=2, max_size=2, unique=True))
@example([b"a\xef", b"a\\xef"])
@example([b"\xc3\xa9", b"\xe9"])
def test_different_names_have_different_safe_forms(names):
    forms = [shown(os.fsdecode(name)) for name in names]
    assert forms[0] != forms[1]
    for form in forms:
        assert not _unsafe(form)
        form.encode("utf-8")


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf", "Zl", "Zp"]), max_size=30))
def test_ordinary_names_are_unchanged(name):
    assert shown(name.replace("\\", "/")) == name.replace("\\", "/")
    assert printable(name) == name


@given(LEGAL)
def test_a_name_with_a_suffix_is_legal_and_unique(name):
    long = (name * 255)[:255]
    other = long[:-1] + (b"a" if long[-1:] != b"a" else b"b")
    files = [os.fsencode(with_suffix(os.fsdecode(one), ".heatmap.png")) for one in (long, other)]
    assert all(len(file) <= 255 and file.endswith(b".heatmap.png") for file in files)
    assert files[0] != files[1]


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "-2", "+3", "\tx"])
def test_a_cell_is_no_formula(text):
    assert cell(text) == f"'{text}"
    assert cell("photo=1.png") == "photo=1.png"


def _run(*argv):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(part) for part in argv])
    return code, out.getvalue(), err.getvalue()


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(LEGAL, min_size=1, max_size=3, unique=True))
@example(ODD)
def test_every_legal_name_gets_its_row_its_files_and_its_cell(
    tiny_artifact, tmp_path_factory, names
):
    folder = tmp_path_factory.mktemp("names")
    photos = folder / "photos"
    photos.mkdir()
    Image.fromarray(striped_photo(30)).save(folder / "plain.png")
    for name in names:
        shutil.copy(folder / "plain.png", photos / os.fsdecode(name + b".png"))
    table = folder / "scores.csv"
    asked = ("--csv", table, "--maps", folder / "maps", "--explain", folder / "why")
    code, out, err = _run("score", tiny_artifact, photos, *asked)
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    files = list(photos.iterdir())
    assert len({row["image"] for row in rows}) == len(files)
    assert not _unsafe(out.replace("\n", "") + err.replace("\n", ""))
    with table.open(newline="", encoding="utf-8") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [row["image"] for row in rows]
    for made in ("maps", "why"):
        assert len(list((folder / made).iterdir())) == len(files)


def test_what_strangers_wrote_cannot_steer_the_terminal(capsys, tiny_artifact):
    with pytest.raises(SystemExit):
        main(["score", str(tiny_artifact), "x", "--map-format", "\x1b[2J"])
    assert main(["score", str(tiny_artifact), "\x1b[2Jabsent.png"]) == 1
    assert main(["check", "\x1b[2Jabsent"]) == 1
    captured = capsys.readouterr()
    assert not _unsafe((captured.out + captured.err).replace("\n", ""))
    assert "\\x1b[2Jabsent" in captured.err


def test_a_guarded_stream_escapes_all_but_the_ends_of_lines():
    stream = io.StringIO()
    print("a\x1b[31m\udcef\u202e\x9b", "b", file=SafeText(stream, "stdout"), sep="\n")
    assert stream.getvalue() == "a\\x1b[31m\\xef\\u202e\\u009b\nb\n"


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_json_is_valid_json_always(capsys, value):
    print_json({"score": value, "list": [value, (value, 1.5)]})
    text = capsys.readouterr().out
    parsed = json.loads(text, parse_constant=pytest.fail)
    assert parsed == {"score": None, "list": [None, [None, 1.5]]}


def test_a_ratio_that_overflows_is_null(tiny_artifact, tmp_path):
    Image.fromarray(striped_photo(30)).save(tmp_path / "a.png")
    code, out, _ = _run("score", tiny_artifact, tmp_path / "a.png", "--threshold", "1e-320")
    assert (code, json.loads(out)["score_ratio"]) == (0, None)


def test_libraries_in_c_are_not_heard(tiny_artifact, tmp_path):
    """A TIFF whose directory is damaged makes libtiff write to file descriptor 2 itself."""
    import subprocess

    Image.fromarray(striped_photo(30)).save(tmp_path / "a.tif", compression="tiff_lzw")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    place = content.index(b"\x16\x01\x04\0") if b"\x16\x01\x04\0" in content else len(content) - 90
    content[place : place + 2] = b"\xff\xfe"
    content[200:260] = bytes(60)
    (tmp_path / "a.tif").write_bytes(bytes(content))
    command = [
        sys.executable,
        "-m",
        "patchcore_runtime",
        "score",
        tiny_artifact,
        tmp_path / "a.tif",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert all(line.startswith("patchcore-runtime: ") for line in done.stderr.splitlines())
    assert done.stderr.count("\n") <= 2


@pytest.mark.parametrize("search", ["auto", "exact", "pca"])
def test_an_artifact_may_lie_in_a_folder_of_any_legal_name(tiny_artifact, tmp_path, search):
    folder = tmp_path / os.fsdecode(b"art\xef\n\x1b")
    shutil.copytree(tiny_artifact, folder)
    Image.fromarray(striped_photo(30)).save(tmp_path / "a.png")
    for command in (["check", folder], ["info", folder], ["score", folder, tmp_path / "a.png"]):
        options = [] if command[0] == "info" else ["--search", search]
        code, out, err = _run(*command, *options)
        assert code == 0, err
        assert not _unsafe((out + err).replace("\n", ""))
