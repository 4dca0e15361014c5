"""Names of files are shown alike by both programs; none merges with another or steers anything."""

import csv
import os
import subprocess
import sys

from PIL import Image

from artifact_factory import striped_photo
from cpp_binary import BINARY, needs_binary
from cpp_runs import run
from patchcore_runtime.cli.main import main

pytestmark = needs_binary

NAMES = [
    b"na\xefve", b"na\xeeve", b"a\\xef", b"a\xef", b"line\nbreak", b"=1+1", b"@SUM(A1)",
    b"\x1b[31m",
    "ïx".encode(), "\u202eright".encode(), "\u009b".encode(), b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
    b"\xe2\x82", b"x" * 251, b"\xef" * 240, b"\x7f", "\ufeffbom".encode(),
]  # fmt: skip


def _folder(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(striped_photo(30)).save(tmp_path / "plain.png")
    for name in NAMES:
        (photos / os.fsdecode(name[:251] + b".png")).hardlink_to(tmp_path / "plain.png")
    for other in (b"notes.txt", b"\xef.md", b"._a.png"):
        (photos / os.fsdecode(other)).write_bytes(b"")
    return photos


def test_any_name_is_shown_and_stored_alike(tiny_artifact, tmp_path, capfd):
    photos = _folder(tmp_path)
    rows, notes, tables, files = [], [], [], []
    for program in ("cpp", "python"):
        made = tmp_path / program
        made.mkdir()
        options = ["--maps", made / "maps", "--csv", made / "scores.csv", "--threads", "1"]
        if program == "cpp":
            code, out, err = run(tiny_artifact, photos, *options)
        else:
            capfd.readouterr()
            code = main(["score", *map(str, [tiny_artifact, photos, *options])])
            out, err = capfd.readouterr()
        assert code == 0, err
        assert not any(ord(letter) < 32 for letter in (out + err).replace("\n", ""))
        rows.append([line.split('"score"')[0] for line in out.splitlines()])
        notes.append(err.splitlines()[0].partition(": ")[2])
        with (made / "scores.csv").open(newline="", encoding="utf-8") as table:
            tables.append([row["image"] for row in csv.DictReader(table)])
        files.append(sorted(path.name for path in (made / "maps").glob("*.heatmap.png")))
    assert rows[0] == rows[1]
    assert len(set(rows[0])) == len(NAMES)
    assert tables[0] == tables[1]
    assert notes[0] == notes[1]
    assert "left out 2 without an image's suffix" in notes[0]
    assert files[0] == files[1]
    assert len(files[0]) == len(NAMES)


def test_a_table_of_names_that_look_like_formulas_is_no_formula(tiny_artifact, tmp_path):
    photos = _folder(tmp_path)
    for program in ("cpp", "python"):
        table = tmp_path / f"{program}.csv"
        command = [str(BINARY), str(tiny_artifact)]
        if program == "python":
            command = [sys.executable, "-m", "patchcore_runtime", "score", str(tiny_artifact)]
        subprocess.run(
            [*command, "=1+1.png", "@SUM(A1).png", "--csv", table],
            cwd=photos, check=True, capture_output=True,
        )  # fmt: skip
        lines = table.read_text(encoding="utf-8").splitlines()
        assert [line[:7] for line in lines[1:]] == ["'=1+1.p", "'@SUM(A"]
