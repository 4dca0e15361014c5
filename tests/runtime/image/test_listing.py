"""Laws of listings: fixed order, suffixes in any case, subfolders, no hidden files."""

from pathlib import Path

import pytest

from patchcore_build.data.dataset import list_images
from patchcore_runtime.errors import ImageError
from patchcore_runtime.image.listing import find_images, list_image_files

SHOWN = ["a.PNG", "b.jpeg", "c.JFIF", "d.jpe", "deep/er/c.tif", "e.jif", "z.webp"]
HIDDEN = ["._a.PNG", ".hidden/d.png", "deep/.e.png"]
OTHERS = ["notes.txt", "deep/scores.csv"]


@pytest.fixture
def folder(tmp_path):
    for name in (*SHOWN, *HIDDEN, *OTHERS):
        path = tmp_path / "parts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "parts"


def test_images_are_found_by_suffix_below_a_folder_and_hidden_files_are_not(folder):
    found = find_images(folder)
    assert [path.relative_to(folder).as_posix() for path in found.images] == SHOWN
    assert len(found.others) == len(OTHERS)
    assert found.hidden == len(HIDDEN)


def test_scoring_and_learning_see_the_same_images(folder):
    notes = []
    scored = [path for path, _ in list_image_files([folder], notes)]
    learned = list_images(folder)
    assert tuple(scored) == learned.images
    names = "deep/scores.csv, notes.txt"
    line = f"{folder}: left out 2 without an image's suffix ({names}), 3 hidden"
    assert (learned.left_out, notes) == (line, [line])


def test_what_is_left_out_is_one_line_however_many_files_and_odd_names(tmp_path):
    for name in ("a.png", "\x1b[31m.txt", "1.md", "2.md", "3.md"):
        (tmp_path / name).write_bytes(b"")
    line = find_images(tmp_path).left_out
    assert line.endswith(r"left out 4 without an image's suffix (\x1b[31m.txt, 1.md, 2.md, ...)")
    assert find_images(tmp_path).images == (tmp_path / "a.png",)


def test_files_made_of_an_image_are_named_by_its_place_below_the_folder(folder):
    assert [name for _, name in list_image_files([folder])] == SHOWN


def test_a_named_file_is_accepted_with_any_suffix(folder):
    named = [folder / "notes.txt", folder / "._a.PNG", Path("absent.png")]
    assert list(list_image_files(named)) == [(path, path.name) for path in named]


def test_a_folder_without_images_is_refused_with_its_number_of_other_files(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"")
    (tmp_path / "._a.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"expected images .*got none among 2 files"):
        list(list_image_files([tmp_path]))
