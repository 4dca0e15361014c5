"""Laws of thumbnails.bin: what was written comes back, and what does not fit is refused."""

import os
import struct

import numpy as np
import pytest
from PIL import Image

from artifact_factory import make_artifact, striped_photo, tiny_config, write_sums
from patchcore_runtime import ArtifactError
from patchcore_runtime.artifact.folder import SHA256SUMS, THUMBNAILS, Artifact
from patchcore_runtime.cli.main import main
from patchcore_runtime.image.thumbnails import (
    MAX_SIDE_PX,
    Thumbnail,
    make_thumbnail,
    read_thumbnails,
    write_thumbnails,
)


@pytest.fixture(scope="module")
def shown_artifact(tmp_path_factory, photos):
    """An artifact that keeps thumbnails; only for reading."""
    folder = tmp_path_factory.mktemp("shown") / "stripes"
    return make_artifact(folder, photos, tiny_config(), thumbnails=True)


def image(size):
    return Image.fromarray(striped_photo(0, size=size))


@pytest.mark.parametrize("size", [(80, 120), (700, 1100), (1500, 300)])
def test_a_thumbnail_is_the_photograph_made_small(size):
    photograph = image(size)
    kept = make_thumbnail(photograph)
    assert (kept.photo_height, kept.photo_width) == size
    small = kept.decode("here")
    assert max(small.size) == min(max(size), MAX_SIDE_PX)
    assert small.width / small.height == pytest.approx(size[1] / size[0], rel=0.02)
    expected = np.asarray(photograph.resize(small.size), np.float32)
    assert np.abs(np.asarray(small, np.float32) - expected).mean() < 6


def test_what_was_written_comes_back(tmp_path):
    kept = [make_thumbnail(image((60, 50))), Thumbnail(), make_thumbnail(image((90, 80)))]
    write_thumbnails(tmp_path / THUMBNAILS, kept)
    assert list(read_thumbnails(tmp_path / THUMBNAILS, 3)) == kept


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: b"PCTHUMBT" + content[8:], "expected thumbnails"),
        (lambda content: content[:15], "expected thumbnails"),
        (lambda content: content[:8] + struct.pack("<I", 2) + content[12:], "version: expected 1"),
        (lambda content: content[:12] + struct.pack("<I", 3) + content[16:], "the file 3"),
        (lambda content: content[:12] + struct.pack("<I", 2**32 - 1) + content[16:], "the file 4"),
        (lambda content: content[:20], "the table says"),
        (lambda content: content[:-1], "the table says"),
        (lambda content: content + b"\0", "the table says"),
        (lambda content: content[:16] + b"\xff" * 4 + content[20:], "the table says"),
        (lambda content: content[:20] + b"\0" * 4 + content[24:], "image 0: .*got 50 x 0"),
        (lambda content: content[:36] + b"\7\0\0\0" + content[40:], "image 1: .*got 7 x 60"),
    ],
)
def test_a_file_whose_sizes_do_not_fit_is_refused(tmp_path, spoil, message):
    path = tmp_path / THUMBNAILS
    write_thumbnails(path, [make_thumbnail(image((60, 50)))] * 2)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ArtifactError, match=f"{THUMBNAILS}: .*{message}"):
        read_thumbnails(path, 2)


def test_a_pipe_in_its_place_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / THUMBNAILS)
    with pytest.raises(ArtifactError, match=r"Not a regular file"):
        read_thumbnails(tmp_path / THUMBNAILS, 2)


def test_what_is_no_small_jpeg_is_refused():
    large = Thumbnail(
        jpeg=make_thumbnail(image((60, 50))).jpeg.replace(b"\0\x3c\0\x32", b"\x0f\0\x0f\0")
    )
    for bad in (
        b"",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        make_thumbnail(image((60, 50))).jpeg[:200],
    ):
        with pytest.raises(ArtifactError, match=r"here: a thumbnail is not a JPEG"):
            Thumbnail(jpeg=bad).decode("here")
    with pytest.raises(
        ArtifactError,
        match=r"here: expected thumbnails of at most 512 px a side, got one of 3840 x 3840 px",
    ):
        large.decode("here")
    bomb = Thumbnail(jpeg=large.jpeg.replace(b"\x0f\0\x0f\0", b"\xff\xff\xff\xff"))
    with pytest.raises(ArtifactError, match=r"here: a thumbnail is not a JPEG .*bomb"):
        bomb.decode("here")


def test_thumbnails_are_covered_by_the_checksums(shown_artifact, tmp_path, capsys):
    artifact = Artifact.open(shown_artifact)
    assert artifact.manifest.training.thumbnails == "jpeg"
    assert THUMBNAILS in (shown_artifact / SHA256SUMS).read_text("utf-8")
    names = artifact.manifest.training.images
    used = set(artifact.memory_bank.origins[:, 0].tolist())
    assert {i for i, one in enumerate(artifact.thumbnails) if one.jpeg} == used
    assert len(artifact.thumbnails) == len(names)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in shown_artifact.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    content = bytearray((copy / THUMBNAILS).read_bytes())
    content[-1] ^= 1
    (copy / THUMBNAILS).write_bytes(content)
    assert main(["check", str(copy)]) == 1
    assert "thumbnails.bin: altered" in capsys.readouterr().err
    with pytest.raises(ArtifactError, match=r"thumbnails.bin: altered"):
        _ = Artifact.open(copy).thumbnails
    write_sums(copy)
    assert main(["check", str(copy)]) == 0


def test_an_artifact_without_thumbnails_has_none_and_says_so(tiny_artifact):
    artifact = Artifact.open(tiny_artifact)
    assert artifact.manifest.training.thumbnails == "none"
    assert artifact.thumbnails == ()
    assert not (tiny_artifact / THUMBNAILS).exists()
