"""Try all known failures -> benchmarks/results/trust.md and trust.json: `make trust`.

    python -m benchmarks.trust [--only artifacts,images,faults,injected,use,compared,fuzz] ...

The command runs every hostile artifact and image of tests/support/hostile in both programs, many
accidents of tests/support/faults.py, failing calls, comparisons of readers, and the fuzzers.
Sections that are not named keep their former results. The exit code is 1 if any result is wrong.
"""

import argparse
import itertools
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.places import RESULTS_FOLDER, ROOT

sys.path.insert(0, str(ROOT / "tests" / "support"))

import faults
import injection
from artifact_factory import make_artifact, tiny_config, write_photos
from benchmarks.harness.stored_sections import machine_line, names_among, store
from benchmarks.trust.page import ABOUT, page
from cpp_dump import DUMP, dump
from hostile import images
from hostile.cases import KINDS, allowed_mib, damages, outcomes, run_again_if_slow, wrong
from hostile.odd_images import bombs, odd_images
from hostile.trial import SLACK_MIB, SLOWEST_S, CppTrial, Outcome, PythonTrial
from patchcore_runtime.image.decode import read_image
from places import TINY

RESULTS = RESULTS_FOLDER / "trust.json"
BINARY = ROOT / "out" / "host" / "patchcore_infer"
Record = dict[str, Any]


def main() -> int:
    """Run the sections and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=names_among(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--kills", type=int, default=100, metavar="N")
    parser.add_argument("--stops", type=int, default=50, metavar="N")
    parser.add_argument("--predictions", type=int, default=10_000, metavar="N")
    parser.add_argument("--calls", type=int, default=1000, metavar="N", help="of a kind, to fail")
    parser.add_argument("--compare-seconds", type=int, default=60, metavar="N", help="of each kind")
    parser.add_argument("--fuzz-seconds", type=int, default=60, metavar="N", help="of each target")
    arguments = parser.parse_args()
    bad = []
    for name in arguments.only:
        measured, start = machine_line(), time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            records = list(SECTIONS[name](Path(scratch), arguments))
        took_s = round(time.perf_counter() - start)
        print(f"{name}: {len(records)} cases in {took_s} s", file=sys.stderr)
        section = {"about": ABOUT[name], "measured": f"{measured}; {took_s} s", "records": records}
        store(RESULTS, name, section, page)
        bad += [row for row in records if row["wrong"]]
    for row in bad:
        print(f"WRONG: {row['program']}: {row['case']}: {row['wrong']}", file=sys.stderr)
    return 1 if bad else 0


def _record(program: str, kind: str, case: str, result: str, wrong: str, **more: Any) -> Record:
    return {
        "program": program, "kind": kind, "case": case, "result": result, "wrong": wrong, **more,
    }  # fmt: skip


def _artifact(scratch: Path) -> tuple[Path, Path]:
    photos = write_photos(scratch / "photos", 6)
    return make_artifact(scratch / "whole", photos, tiny_config()), photos


def _trials(whole: Path) -> Iterator[tuple[str, PythonTrial | CppTrial]]:
    trials: dict[str, PythonTrial | CppTrial] = {"Python": PythonTrial()}
    if BINARY.is_file():
        trials["C++"] = CppTrial(BINARY)
    for program, trial in trials.items():
        trial.measure_good_run(artifact=whole, image=whole / "selftest.png")
        yield program, trial
        if isinstance(trial, PythonTrial):
            trial.close()


def _measured(
    program: str, kind: str, case: str, outcome: Outcome, words: str, most_mib: float
) -> Record:
    """Make a record; `words` state what is wrong, including too much time or memory."""
    if not words and outcome.seconds > SLOWEST_S:
        words = f"took {outcome.seconds:.1f} s"
    if not words and outcome.grown_mib > most_mib:
        words = f"grew by {outcome.grown_mib:.0f} MiB, {most_mib:.0f} allowed"
    said = _bare(outcome.crash or outcome.refusal or "read")
    seconds, grown_mib = round(outcome.seconds, 3), round(outcome.grown_mib, 1)
    return _record(program, kind, case, said, words, seconds=seconds, grown_mib=grown_mib)


def _bare(text: str) -> str:
    """Remove the names of scratch folders, which differ from run to run."""
    return re.sub(r"(/[^/ :;|']+)+/(?=[^/ ]*)", "", text)[:160]


def _artifacts(scratch: Path, _: argparse.Namespace) -> Iterator[Record]:
    whole, photos = _artifact(scratch)
    listed = {kind: damages(kind, whole, photos) for kind in KINDS}
    for program, trial in _trials(whole):
        for kind, of_kind in listed.items():
            for damage, outcome in outcomes(trial, of_kind, whole, scratch):
                words = wrong(damage, outcome)
                yield _measured(program, kind, damage.name, outcome, words, SLACK_MIB)


def _images(scratch: Path, _: argparse.Namespace) -> Iterator[Record]:
    whole, _photos = _artifact(scratch)
    bad = images()
    for program, trial in _trials(whole):
        for name, content in {**bad, **bombs()}.items():
            path = scratch / name
            path.write_bytes(content)
            outcome = run_again_if_slow(trial, artifact=whole, image=path)
            words = outcome.crash or ("was read" if name in bad and not outcome.refusal else "")
            most_mib = allowed_mib(name, content)
            yield _measured(program, "bomb or damaged", name, outcome, words, most_mib)
    for name, content, rgb in odd_images():
        path = scratch / name
        path.write_bytes(content)
        words = "" if np.array_equal(np.asarray(read_image(path)), rgb) else "other pixels"
        yield _record("Python", "strange and good", name, "read to the bit", words)
        if DUMP.is_file() and path.suffix in (".png", ".jpg"):
            ((pixels, _),) = dump([(path, None)])
            words = "" if np.array_equal(pixels, rgb) else "other pixels"
            yield _record("C++", "strange and good", name, "read to the bit", words)


def _faults(scratch: Path, arguments: argparse.Namespace) -> Iterator[Record]:
    photos = write_photos(scratch / "photos", 6)
    (scratch / "killed").mkdir()
    counts, takes_s = faults.kill_fits(scratch / "killed", photos, count=arguments.kills, seed=0)
    good = {"killed", "ended first", "whole", "none", "rerun succeeds", "after the rerun whole"}
    strange = {word: n for word, n in counts.items() if word not in good and n}
    words = f"{strange}" if strange else ""
    result = ", ".join(f"{word}: {number}" for word, number in counts.items())
    moments = f"random moments of its {takes_s:.1f} s (seed 0), until {arguments.kills} were hit"
    case = f"fit, kill -9 at {moments}"
    yield _record("workshop", "killed", case, result, words)
    yield from _stopped(scratch, photos, arguments.stops)
    (scratch / "two").mkdir()
    both = faults.two_fits_at_once(scratch / "two", photos)
    fine = both["codes"] == [0, 1] and both["artifact"] == "whole" and not both["left"]
    fine = fine and len(both["refusals"]) == 1
    yield _record("workshop", "two at once", "two fits to one output",
                  f"one whole, the other: {_bare(' | '.join(both['refusals']))}",
                  "" if fine else str(both))  # fmt: skip
    for size_kib in (4, 16, 32, 64, 128):
        yield _on_disk(scratch, photos, size_kib, read_only=False)
    yield _on_disk(scratch, photos, 64, read_only=True)


def _stopped(scratch: Path, photos: Path, count: int) -> Iterator[Record]:
    """Ctrl-C and SIGTERM at seeded moments: one line, the signal's exit code, nothing left."""
    write_category(scratch / "set", photos)

    def benchmark(output: Path) -> list[object]:
        settings = ["--backbone", "scattering", "--resize-px", "64", "--folds", "2"]
        return ["benchmark", "--dataset", scratch / "set", *settings, "--output", output]

    for name, of in (
        ("fit", lambda output: faults.fit_arguments(photos, output / "artifact")),
        ("benchmark", benchmark),
    ):
        for stop in (signal.SIGINT, signal.SIGTERM):
            place = scratch / f"stopped-{name}-{stop.name}"
            takes_s, rounds = faults.stop_commands(place, of, stop=stop, count=count, seed=0)
            bad = [f"{moment:.2f} s: {found}" for moment, found in rounds if found]
            case = f"{name}, {stop.name} at random moments of its {takes_s:.1f} s (seed 0)"
            result = f"{len(rounds)} times one line, exit code {128 + stop}, nothing left"
            words = _bare("; ".join(bad)) or ("" if rounds else "no round was hit")
            yield _record("workshop", "stopped", case, result, words)


def write_category(root: Path, photos: Path) -> None:
    """Write a data set with two categories of these images, each with two test images."""
    for category in ("first", "second"):
        for kind, count in (("train/good", None), ("test/good", 1), ("test/dent", 1)):
            folder = root / category / kind
            folder.mkdir(parents=True)
            for path in sorted(photos.iterdir())[:count]:
                shutil.copy(path, folder)


def _on_disk(scratch: Path, photos: Path, size_kib: int, *, read_only: bool) -> Record:
    kind = "read-only disk" if read_only else "full disk"
    case = "fit to a read-only disk" if read_only else f"fit to a disk of {size_kib} KiB"
    place = scratch / f"disk{size_kib}{read_only}"
    with faults.small_disk(place, size_kib=size_kib, read_only=read_only) as disk:
        if disk is None:
            return _record("workshop", kind, case, "not run: mounting a tmpfs takes root", "")
        result = faults.fit_on_small_disk(disk, photos)
    fine = result["code"] == 1 and not result["left"] and len(result["refusals"]) == 1
    words = _bare(" | ".join(result["refusals"]))
    return _record("workshop", kind, case, words, "" if fine else str(result))


def _use(scratch: Path, arguments: argparse.Namespace) -> Iterator[Record]:
    whole, _ = _artifact(scratch)
    more, of_threads = faults.predictions_of_threads(whole, threads=8, rounds=50)
    others, of_processes = faults.predictions_of_processes(whole, processes=4, rounds=50)
    same = not more and not others and of_threads == of_processes
    yield _record("Python", "at once", "50 images by 8 threads and 4 processes",
                  "all bytes equal", "" if same else "bytes differ")  # fmt: skip
    first, last = 1000, arguments.predictions
    before, after = faults.memory_over_predictions(whole, first=first, last=last)
    words = "" if after - before < 2048 else "memory grows"
    yield _record("Python", "for long", f"{last} predictions in one process",
                  f"resident {before / 1024:.1f} MiB after {first}, {after / 1024:.1f} MiB after "
                  f"{last}", words)  # fmt: skip


def _injected(scratch: Path, arguments: argparse.Namespace) -> Iterator[Record]:
    reason = injection.no_shim()
    if reason:
        yield _record("all", "not run", reason, "not run", "")
        return
    place = injection.Workplace(scratch)
    with injection.server(scratch) as running:
        for command in injection.COMMANDS:
            good = injection.whole_run(running, place, command)
            for kind, onward in itertools.product(injection.KINDS, (False, True)):
                tried = injection.injected(
                    running, place, command, good, kind, onward=onward, most=arguments.calls
                )
                yield _injected_kind(command, kind, onward, good.calls[kind], list(tried))


def _injected_kind(
    command: str, kind: str, onward: bool, calls: int, tried: list[tuple[int, Any, list[str]]]
) -> Record:
    told = sum(run.code == 1 for _, run, _ in tried)
    wrong = [f"call {nth}: {words[0]}" for nth, _, words in tried if words]
    how = "and all later ones fail" if onward else "fails"
    numbers = f"n = 1 to {calls}" if len(tried) >= calls else f"{len(tried)} n of 1 to {calls}"
    case = f"{command}: call n {how}, {numbers}" if calls else f"{command} makes no call"
    result = f"{len(tried)} runs, {told} with exit code 1, {len(wrong)} against the law"
    program = "stand-in of fit" if command == "fit" else "Python"
    return _record(program, f"{kind}", case, result, _bare("; ".join(wrong[:3])))


def _compared(scratch: Path, arguments: argparse.Namespace) -> Iterator[Record]:
    support, seconds = ROOT / "tests" / "support", arguments.compare_seconds
    files = {"manifest": "manifest.json", "sums": "SHA256SUMS", "network": "features.onnx"}
    for kind, name in files.items():
        (scratch / kind).mkdir()
        shutil.copyfile(TINY / name, scratch / kind / name)
    tasks: list[tuple[str, str, list[Any]]] = [
        ("Python, onnx", "networks", [support / "onnx_differential.py", scratch / "network"])
    ]
    verdicts = BINARY.parent / "tests" / "dump_verdicts"
    if verdicts.is_file() and DUMP.is_file():
        compare = support / "compare_programs.py"
        tasks += [
            ("Python, C++", kind, [compare, verdicts, kind, scratch / kind]) for kind in files
        ]
        tasks.append(("Python, C++", "images", [support / "compare_images.py", DUMP]))
    for program, kind, command in tasks:
        full = [sys.executable, "-W", "ignore", *command, "--seconds", seconds]
        done = subprocess.run(
            list(map(str, full)), capture_output=True, text=True, check=False,
            env=faults.environment(), errors="replace",
        )  # fmt: skip
        said = done.stderr.strip().splitlines() or ["nothing"]
        words = "" if done.returncode == 0 and said[-1].startswith("Done") else _bare(said[0])
        yield _record(program, "compared", f"{kind}, {seconds} s", _bare(said[-1]), words)


def _fuzz(scratch: Path, arguments: argparse.Namespace) -> Iterator[Record]:
    corpus = scratch / "corpus"
    subprocess.run([sys.executable, ROOT / "tests/support/make_fuzz_corpus.py", corpus],
                   check=True, env=faults.environment())  # fmt: skip
    seconds = arguments.fuzz_seconds
    tasks: list[tuple[str, str, list[Any]]] = []
    for kind in ("manifest", "memory_bank", "hnsw", "onnx", "image", "exif"):
        program = ROOT / "out" / "fuzz" / "fuzz" / f"fuzz_{kind}"
        own = shutil.copytree(corpus / kind, scratch / kind)
        options = [f"-max_total_time={seconds}", "-max_len=20000", "-rss_limit_mb=3000"]
        if program.is_file():
            findings = f"-artifact_prefix={ROOT}/out/finding-{kind}-"
            tasks.append(("C++", kind, [program, *options, findings, own]))
    guided = ROOT / "out" / "fuzz-venv" / "bin" / "python"
    python = guided if guided.is_file() else sys.executable
    for kind in ("manifest", "memory_bank", "hnsw", "onnx", "image"):
        command = [
            python,
            "-W",
            "ignore",
            ROOT / "tests/support/fuzz_python.py",
            kind,
            corpus / kind,
        ]
        tasks.append(("Python", kind, [*command, "--seconds", seconds]))
    with ThreadPoolExecutor(4) as pool:  # each is one thread
        yield from pool.map(lambda task: _fuzzed(*task), tasks)


def _fuzzed(program: str, kind: str, command: list[Any]) -> Record:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False,
        env=faults.environment(), errors="replace",
    )  # fmt: skip
    runs = re.search(r"Done (\d+) runs? in (\d+)", done.stderr)
    how = "blind" if "blindly" in done.stderr else "guided by coverage"
    words = "" if done.returncode == 0 and runs else f"{done.stderr.strip()[-300:]}"
    result = f"{int(runs[1]):,} runs in {runs[2]} s, no finding" if runs else "a finding"
    return _record(program, f"fuzzing, {how}", kind, result, words)


SECTIONS = {
    "artifacts": _artifacts,
    "images": _images,
    "faults": _faults,
    "injected": _injected,
    "use": _use,
    "compared": _compared,
    "fuzz": _fuzz,
}


if __name__ == "__main__":
    sys.exit(main())
