"""Accidents around a program: killed, disk full, read-only, two at once, used for long.

Each function does one thing to the real commands and returns the result as plain numbers and words.
tests/contract/test_faults.py runs a few of them, benchmarks/trust/__main__.py runs many.
"""

import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

import patchcore_build
import patchcore_runtime
from artifact_factory import striped_photo
from patchcore_runtime import Artifact, ArtifactError, Detector

SITE = [str(Path(package.__file__).parents[1]) for package in (patchcore_build, patchcore_runtime)]
# MindSpore is imported once, and each fit is forked: 100 of them would import for five minutes.
_FORKED = """
import os, sys, signal
import mindspore
from patchcore_build.cli.main import main
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os._exit(main(line.rstrip("\\n").split("\\t")))
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class ForkedFits:
    """Runs `patchcore-build` in forks of a process that has already loaded MindSpore."""

    def __enter__(self):
        self._parent = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _FORKED],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env=environment(),
        )  # fmt: skip
        return self

    def __exit__(self, *_):
        self._parent.stdin.close()
        self._parent.wait()
        self._parent.stdout.close()

    def run(self, arguments, *, kill_after_s=None):
        """Return the exit code of one command; it is killed after some seconds if requested."""
        self._parent.stdin.write("\t".join(map(str, arguments)) + "\n")
        self._parent.stdin.flush()
        pid = int(self._parent.stdout.readline())
        timer = None
        if kill_after_s is not None:
            timer = threading.Timer(kill_after_s, _kill, [pid])
            timer.start()
        code = int(self._parent.stdout.readline())
        if timer is not None:
            timer.cancel()
        return code


def _kill(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def environment(**more):
    """Return this process's environment, with this checkout's packages."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(SITE), **more}


def fit_arguments(photos, output):
    """Return the arguments of the smallest real fit: random network, tiny images."""
    settings = ["--backbone", "scattering", "--resize-px", "64", "--folds", "2"]
    return ["fit", "--normal", photos, *settings, "--output", output]


def build_process(*arguments, environ=None, **options):
    """Start `patchcore-build` as a separate process."""
    program = "import sys; from patchcore_build.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment(**(environ or {})), **streams, **options)


def kill_fits(folder, photos, *, count, seed):
    """Kill fits at seeded moments until `count` were hit; return what each left behind.

    Some fits end before their moment; at most three times as many fits are started.
    """
    rng, results = random.Random(seed), Counter()  # noqa: S311 moments, no secrets
    with ForkedFits() as fits:
        output = folder / "artifact"
        took_s = []
        for _ in range(3):
            start = time.perf_counter()
            assert fits.run(fit_arguments(photos, output)) == 0
            took_s.append(time.perf_counter() - start)
            remove(output)
        takes_s = min(took_s)
        while results["killed"] < count and results.total() < 2 * 3 * count:  # two words a fit
            code = fits.run(fit_arguments(photos, output), kill_after_s=rng.uniform(0, takes_s))
            results["killed" if code == -signal.SIGKILL else "ended first"] += 1
            results[state_of(output)] += 1
            remove(output)
        code = fits.run(fit_arguments(photos, folder / "artifact"))
        results["rerun succeeds" if code == 0 else f"rerun ends with {code}"] += 1
        results[f"after the rerun {state_of(folder / 'artifact')}"] += 1
    left = sorted(path.name for path in folder.iterdir())
    results["staging folders left"] += sum(".partial-" in name for name in left)
    return dict(results), takes_s


LIBRARY_FILES = ("tmp/.ses",)  # onnxruntime writes its session number into TMPDIR
START_S = 0.1  # the interpreter's own start, in which no program can handle a signal


def stop_commands(folder, arguments, *, stop, count, seed, takes_s=None):
    """Send a signal to a command at seeded moments; return each round's moment and faults.

    Every command has its own folders for outputs and for temporary files. It must end with the
    signal's exit code and one line, and leave no file but what `benchmark` keeps to continue.

    Args:
        folder: An empty folder.
        arguments: A function: output folder -> arguments of `patchcore-build`.
        stop: The signal, SIGINT or SIGTERM.
        count: Number of rounds; a round that ends before its moment is repeated, three times at
            most in all.
        seed: Seed of the moments.
        takes_s: Seconds within which the moments lie; by default a whole command is measured.
    """
    rng = random.Random(seed)  # noqa: S311 moments, no secrets
    if takes_s is None:
        takes_s = min(_run_stopped(folder / f"whole{i}", arguments, None, None)[0] for i in (0, 1))
    rounds, ended = [], 0
    while len(rounds) < count and ended < 3 * count:
        moment_s = rng.uniform(START_S, takes_s)
        place = folder / f"round{len(rounds)}-{ended}"
        _, code, said, left = _run_stopped(place, arguments, stop, moment_s)
        if code == 0:
            ended += 1
            continue
        words = "interrupted" if stop == signal.SIGINT else "terminated"
        faults = [] if code == 128 + stop else [f"exit code {code}"]
        faults += [] if _last_words(said) == [f"patchcore-build: {words}"] else [f"said {said!r}"]
        rounds.append(
            (moment_s, [*faults, *(f"left {name}" for name in left if name not in LIBRARY_FILES)])
        )
        shutil.rmtree(place)
    return takes_s, rounds


def _run_stopped(place, arguments, stop, moment_s):
    """Return seconds, exit code, stderr and the files left of one command."""
    output, scratch = place / "out", place / "tmp"
    for made in (output, scratch):
        made.mkdir(parents=True)
    start = time.perf_counter()
    process = build_process(*arguments(output), environ={"TMPDIR": str(scratch)})
    if stop is not None:
        time.sleep(moment_s)
        process.send_signal(stop)
    said = process.communicate()[1]
    kept = ("settings.json", "runs", "reports")  # what a benchmark continues from
    left = [
        str(path.relative_to(place))
        for path in (*output.rglob("*"), *scratch.rglob("*"))
        if not any(part in kept for part in path.relative_to(place).parts)
    ]
    return time.perf_counter() - start, process.returncode, said, left


def _last_words(said):
    """Return the lines of stderr that are not those of the progress."""
    return [line for line in said.splitlines() if line and "…" not in line]


def state_of(folder):
    """Return whether an artifact is absent, whole, or neither."""
    if not folder.exists():
        return "none"
    try:
        Artifact.open(folder).verify()
    except ArtifactError as error:
        return f"broken: {error}"
    return "whole"


def remove(folder):
    """Remove a finished artifact before the next round."""
    if folder.exists():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def two_fits_at_once(folder, photos):
    """Run two fits into one folder; return exit codes, the loser's message and the result."""
    output = folder / "artifact"
    both = [build_process(*fit_arguments(photos, output)) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    codes = sorted(process.returncode for process in both)
    lines = [line for text in said for line in text.splitlines() if "patchcore-build: " in line]
    left = [path.name for path in folder.iterdir() if path.name != "artifact"]
    return {"codes": codes, "refusals": lines, "artifact": state_of(output), "left": left}


@contextlib.contextmanager
def small_disk(folder, *, size_kib, read_only=False):
    """Yield a file system of that size at `folder`, or None if this user cannot mount one."""
    folder.mkdir()
    options = f"size={size_kib}k" + (",ro" if read_only else "")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def fit_on_small_disk(disk, photos):
    """Run a fit; return exit code, last line, and the files left on the disk."""
    process = build_process(*fit_arguments(photos, disk / "artifact"))
    said = process.communicate()[1]
    lines = [line for line in said.splitlines() if "patchcore-build: " in line]
    left = sorted(path.name for path in disk.iterdir())
    return {"code": process.returncode, "refusals": lines, "left": left}


def predictions_of_threads(artifact, *, threads, rounds):
    """Count the different results of threads that share one detector and image."""
    detector = Detector.load(artifact, threads=1)
    photos = [striped_photo(seed) for seed in range(rounds)]
    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(lambda i: _digest(detector, photos[i // threads]),
                                range(threads * rounds)))  # fmt: skip
    return len(set(results)) - rounds, results[::threads]


def predictions_of_processes(artifact, *, processes, rounds):
    """Count the different results of processes that each load the artifact."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(_digests, str(artifact), rounds) for _ in range(processes)]
        results = [task.result() for task in tasks]
    return len({tuple(result) for result in results}) - 1, results[0]


def _digests(artifact, rounds):
    detector = Detector.load(artifact, threads=1)
    return [_digest(detector, striped_photo(seed)) for seed in range(rounds)]


def _digest(detector, photo):
    result = detector.predict(photo)
    parts = np.float64(result.score).tobytes(), result.anomaly_map.tobytes()
    return hashlib.sha256(b"".join((*parts, result.nearest_rows.tobytes()))).hexdigest()


def memory_over_predictions(artifact, *, first, last):
    """Return resident KiB after `first` and `last` predictions, in a new process."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from patchcore_runtime import Detector\n"
        "detector = Detector.load(sys.argv[1], threads=1)\n"
        "for count in range(1, int(sys.argv[4]) + 1):\n"
        "    detector.predict(sys.argv[2])\n"
        "    if count in (int(sys.argv[3]), int(sys.argv[4])):\n"
        "        lines = Path('/proc/self/status').read_text().splitlines()\n"
        "        print(next(line for line in lines if line.startswith('VmRSS')).split()[1])\n"
    )
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "photo.png"
        Image.fromarray(striped_photo(0)).save(image)
        command = [sys.executable, "-c", program, artifact, image, first, last]
        done = subprocess.run(
            list(map(str, command)), env=environment(), check=True, capture_output=True, text=True
        )
    return tuple(map(int, done.stdout.split()))
