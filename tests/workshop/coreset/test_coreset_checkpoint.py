"""Laws of an interrupted coreset: it goes on to the same rows, and takes up nobody else's."""

import json

import numpy as np
import pytest

from patchcore_build.coreset.checkpoint import Checkpoint, checkpoint_in, clear_checkpoints
from patchcore_build.coreset.select import select_coreset
from patchcore_build.errors import OutputError

ROWS = np.arange(0, 9000, 3)


class Interrupted(Exception):  # noqa: N818 - not an error of ours
    """What stands for a killed process."""


def draw(seed=0):
    return np.random.default_rng(seed).standard_t(3, (9000, 8)).astype(np.float32)


def interrupt(features, path, *, after, **options):
    """Select until `after` rows are picked, then stop in the middle."""

    def stop(done, _):
        if done > after:
            raise Interrupted

    with pytest.raises(Interrupted):
        select_coreset(
            features, 600, seed=0, checkpoint=Checkpoint(path=path, every_s=0), progress=stop,
            **options,
        )  # fmt: skip


def resume(features, path, count=600, **options):
    """The rows, and how many of them had been picked before."""
    told = []
    rows = select_coreset(
        features, count, seed=0, checkpoint=Checkpoint(path=path),
        progress=lambda done, _: told.append(done), **options,
    )  # fmt: skip
    return rows.tolist(), told[0]


@pytest.mark.parametrize("after", [1, 50, 400])
@pytest.mark.parametrize("rows", [None, ROWS])
def test_an_interrupted_selection_goes_on_to_the_same_rows(tmp_path, after, rows):
    features, path = draw(), tmp_path / "bank.json"
    expected = select_coreset(features, 600, seed=0, rows=rows).tolist()
    interrupt(features, path, after=after, rows=rows)
    kept = json.loads(path.read_text())["picked"]
    assert 1 <= len(kept) <= 600
    assert kept == expected[: len(kept)]
    got, first_step = resume(features, path, rows=rows)
    assert got == expected
    assert first_step == len(kept)
    assert json.loads(path.read_text())["picked"] == expected


def test_a_finished_selection_is_read_and_not_picked_again(tmp_path):
    features, path = draw(), tmp_path / "bank.json"
    longest, _ = resume(features, path)
    written = path.read_bytes()
    assert resume(features, path) == (longest, 600)
    assert resume(features, path, count=70) == (longest[:70], 70)
    assert path.read_bytes() == written
    more, _ = resume(features, path, count=900)
    assert more[:600] == longest
    assert more == select_coreset(features, 900, seed=0).tolist()


def test_between_two_writings_time_must_pass(tmp_path):
    path = tmp_path / "bank.json"
    seen = []
    checkpoint = Checkpoint(path=path, every_s=3600)
    select_coreset(
        draw(), 600, seed=0, checkpoint=checkpoint, progress=lambda *_: seen.append(path.exists())
    )
    assert not any(seen[:-1])
    assert path.exists()  # the last rows are always kept


def test_a_checkpoint_of_other_features_rows_or_seed_is_refused(tmp_path):
    features, path = draw(), tmp_path / "bank.json"
    resume(features, path)
    before = path.read_bytes()
    changed = features.copy()
    changed[4711, 3] += 1
    for other, options in ((changed, {}), (features[:-1], {}), (features, {"rows": ROWS})):
        with pytest.raises(
            OutputError, match=r"bank\.json: this checkpoint belongs to other features"
        ) as e:
            resume(other, path, **options)
        assert "\n" not in str(e.value)
    with pytest.raises(OutputError, match="other features, rows or seed; remove it"):
        select_coreset(features, 600, seed=1, checkpoint=Checkpoint(path=path))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff\x00", b"[]", b"{}", b'{"picked_from": "x"}',
        b'{"picked": [], "picked_from": ""}',
        b'{"picked": [1, 1], "picked_from": ""}', b'{"picked": [-1], "picked_from": ""}',
        b'{"picked": [[1]], "picked_from": ""}', b'{"picked": ["a"], "picked_from": ""}',
        b'{"picked": [99999999999999999999], "picked_from": ""}',
        b'{"picked": null, "picked_from": ""}',
    ],
)  # fmt: skip
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "bank.json"
    path.write_bytes(content)
    with pytest.raises(OutputError, match=r"bank\.json: not a whole checkpoint; remove it") as e:
        resume(draw(), path)
    assert "\n" not in str(e.value)


def test_rows_that_cannot_be_are_refused_even_under_the_right_digest(tmp_path):
    features, path = draw(), tmp_path / "bank.json"
    resume(features, path, count=5)
    content = json.loads(path.read_text())
    for picked in ([*content["picked"], 9000], content["picked"][::-1]):
        path.write_text(json.dumps({**content, "picked": picked}))
        with pytest.raises(OutputError, match="not a whole checkpoint"):
            resume(features, path)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(OutputError, match=r"bank\.json: cannot be written"):
        resume(draw(), tmp_path / "nowhere" / "bank.json")


def test_clearing_a_folder_leaves_what_is_not_a_checkpoint(tmp_path):
    resume(draw(), checkpoint_in(tmp_path, "fold1").path, count=5)
    (tmp_path / "notes.json").write_text("{}")
    clear_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.json"]
    assert checkpoint_in(None, "fold1") is None
