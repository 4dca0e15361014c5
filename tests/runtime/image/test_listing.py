"""Laws of listings: one order, suffixes of any case, hidden files left out, folders below too."""

from pathlib import Path

import pytest

from patchcore_build.data.dataset import list_images
from patchcore_runtime.errors import ImageError
from patchcore_runtime.image.listing import find_images, list_image_files

SHOWN = ["a.PNG", "b.jpeg", "deep/er/c.tif", "z.webp"]
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
    images, others = find_images(folder)
    assert [path.relative_to(folder).as_posix() for path in images] == SHOWN
    assert others == len(OTHERS)


def test_scoring_and_learning_see_the_same_images(folder):
    scored = [path for path, _ in list_image_files([folder])]
    learned = list_images(folder)
    assert tuple(scored) == learned.images
    assert learned.strays == len(OTHERS)


def test_files_made_of_an_image_are_named_by_its_place_below_the_folder(folder):
    assert [name for _, name in list_image_files([folder])] == SHOWN


def test_a_file_that_is_named_is_taken_whatever_its_name(folder):
    named = [folder / "notes.txt", folder / "._a.PNG", Path("absent.png")]
    assert list(list_image_files(named)) == [(path, path.name) for path in named]


def test_a_folder_without_images_says_how_many_other_files_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"")
    (tmp_path / "._a.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"expected images .*got none among 1 files"):
        list(list_image_files([tmp_path]))
