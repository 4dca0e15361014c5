"""Contestants as processes that take turns: jobs -> seconds and peak memory of each.

Each contestant is a separate process (worker.py), so its memory and its libraries are separate from
those of others. It may use as many cores as the race allows. Contestants that are not running wait.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.harness.figures import spread
from benchmarks.places import ROOT

GUESTS = (  # these live in the peers' environment
    "benchmarks.peers.anomalib_model",
    "benchmarks.peers.amazon",
    "benchmarks.peers.search",
)
Contestant = tuple[str, dict[str, Any]]  # module that is run, job
Record = dict[str, Any]


class Stable:
    """The two environments of the contestants, and their working folder."""

    def __init__(self, *, folder: Path, peers_python: Path | None = None) -> None:
        self.folder = folder
        self.peers_python = peers_python
        self._log = folder / "log.txt"

    def start(self, contestant: Contestant, threads: int) -> "Worker":
        """Start a contestant on `threads` cores; it loads while we wait for the first answer."""
        program, job = contestant
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TQDM_DISABLE": "1"}
        own_path = environment.get("PYTHONPATH")
        python = sys.executable
        if program in GUESTS:  # imports come from the peers' environment, and no hub is contacted
            own_path = None
            environment["HF_HUB_OFFLINE"] = "1"
            python = str(self.peers_python)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), own_path]))
        with _cores(threads), self._log.open("a") as log:
            process = subprocess.Popen(
                [python, "-m", program, json.dumps(job | {"threads": threads})],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.folder,
                env=environment,
            )
        return Worker(process, f"{program} {job['task']}", self._log)

    def once(self, contestant: Contestant, threads: int) -> Record:
        """Start a contestant, run it once and end it; return its answer."""
        worker = self.start(contestant, threads)
        answer = worker.run(1)
        worker.close()
        return answer


class Worker:
    """One running contestant."""

    def __init__(self, process: "subprocess.Popen[str]", name: str, log: Path) -> None:
        self._process = process
        self._name = name
        self._log = log

    def run(self, times: int) -> Record:
        """Let the contestant run; return its answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        line = ""
        with suppress(BrokenPipeError):
            if stdin and stdout:  # both were asked for
                stdin.write(f"{times}\n")
                stdin.flush()
                line = stdout.readline()
        if not line:
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-12:])
            raise SystemExit(
                f"{self._name}: ended without an answer; {self._log} ends with\n{tail}"
            )
        answer: Record = json.loads(line)
        return answer

    def close(self) -> None:
        """End the contestant."""
        self._process.communicate()


def race(
    stable: Stable,
    contestants: Mapping[str, Contestant],
    *,
    threads: int,
    rounds: int,
    laps: int = 1,
    warm_up: int = 0,
) -> dict[str, Record]:
    """Let all contestants take turns: `rounds` times `laps` runs each, after `warm_up` runs.

    Runs of the warm-up do not count. Return for each contestant: median and percentiles of the
    seconds, their number, peak memory, and the result of the last run.
    """
    workers = {who: stable.start(job, threads) for who, job in contestants.items()}
    for worker in workers.values():
        worker.run(warm_up)
    seconds: dict[str, list[float]] = {who: [] for who in workers}
    answers: dict[str, Record] = {}
    for _ in range(rounds):
        for who, worker in workers.items():
            answers[who] = worker.run(laps)
            seconds[who] += answers[who]["seconds"]
    for worker in workers.values():
        worker.close()
    return {who: summary(seconds[who], answers[who]) for who in workers}


def summary(seconds: list[float], answer: Record) -> Record:
    """Compute the figures of one contestant."""
    return {
        **spread(seconds),
        "peak_mb": answer["result"].get("peak_mb", answer["peak_mb"]),
        "result": answer["result"],
    }


@contextmanager
def _cores(count: int) -> Iterator[None]:
    """Let processes started inside use `count` cores; every library's thread count follows."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
