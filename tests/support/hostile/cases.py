"""All damages of an artifact by kind, and one trial of one of them.

kind, valid artifact -> damages; damage -> Outcome of a program, and the fault of this outcome.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import hostile
from hostile import Damage
from hostile.graphs import graph_damages, link_damages
from hostile.swaps import make_others, swap_damages
from hostile.trial import SLACK_MIB, SLOWEST_S, CppTrial, Outcome, PythonTrial

KINDS = ("manifest", "bank", "file", "graph", "link", "swap")


def damages(kind: str, folder: Path, photos: Path) -> list[Damage]:
    """Return the damages of one kind; `folder` is a valid artifact of `photos`."""
    if kind == "manifest":
        return hostile.manifest_damages(json.loads((folder / "manifest.json").read_text()))
    if kind == "bank":
        return hostile.bank_damages(folder)
    if kind == "file":
        return hostile.file_damages(folder)
    if kind == "graph":
        return graph_damages(folder)
    return link_damages() if kind == "link" else swap_damages(*make_others(folder.parent, photos))


def outcomes(
    trial: PythonTrial | CppTrial, all_damages: list[Damage], whole: Path, scratch: Path
) -> Iterator[tuple[Damage, Outcome]]:
    """Apply each damage to a new copy of `whole`, and yield the program's outcome."""
    image = scratch / "photo.png"
    shutil.copyfile(whole / "selftest.png", image)
    for damage in all_damages:
        place = scratch / "place"
        folder = shutil.copytree(whole, place / "stripes")
        hostile.apply(damage, folder)
        shown = None if damage.by_check else image
        yield damage, run_again_if_slow(trial, artifact=folder, image=shown)
        shutil.rmtree(place)


def run_again_if_slow(
    trial: PythonTrial | CppTrial, *, artifact: Path, image: Path | None
) -> Outcome:
    """Run one case; run it twice if slow, because a busy machine may have paused it."""
    outcome = trial.run(artifact=artifact, image=image)
    if outcome.seconds <= SLOWEST_S:
        return outcome
    return trial.run(artifact=artifact, image=image)


def wrong(damage: Damage, outcome: Outcome) -> str:
    """Return what is wrong with a refusal; empty if nothing is."""
    if outcome.crash:
        return f"{damage.name}: {outcome.crash}"
    missing = [part for part in damage.named if part not in outcome.refusal]
    if not outcome.refusal or missing or "\n" in outcome.refusal or len(outcome.refusal) > 600:
        return f"{damage.name}: does not name {missing}: {outcome.refusal!r:.600}"
    return ""


def allowed_mib(name: str, content: bytes) -> float:
    """Return twice the file, twice the memory its header may need (4 bytes a pixel), and slack."""
    pixels = 4096 * 4096 * 4 if "4096" in name else 0
    pixels = 65500 * 1000 * 4 if "65500_x_1000" in name else pixels
    return 2 * (len(content) + pixels) / 2**20 + SLACK_MIB
