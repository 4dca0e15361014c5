"""The measured side of `make bench-peers`: one process, one contestant, one line per request.

a job (JSON argument) -> loads; then for each line "n" on stdin: runs n times and answers
{"seconds": [n times], "result": of the last run, "peak_mb": so far}, one JSON line on stdout.
Idle contestants wait in a read, so several can take turns in one run. The module uses only the
standard library, because it runs in the project's environment and in the peers' environment.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Job = dict[str, Any]
Step = Callable[[], dict[str, Any]]  # one measured run -> its result


def serve(tasks: Mapping[str, Callable[[Job], Step]]) -> None:
    """Load the task that the job names, and answer until stdin ends."""
    job: Job = json.loads(sys.argv[1])
    # Output of libraries goes to stderr, because stdout carries only answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    step = tasks[job["task"]](job)
    for line in sys.stdin:
        seconds: list[float] = []
        result: dict[str, Any] = {}
        for _ in range(int(line)):
            start = time.perf_counter()
            result = step()
            seconds.append(time.perf_counter() - start)
        answer = {"seconds": seconds, "result": result, "peak_mb": peak_mb()}
        print(json.dumps(answer), file=answers, flush=True)


def peak_mb(who: int = resource.RUSAGE_SELF) -> float:
    """Return the peak resident memory in MiB (Linux counts in KiB).

    For this process the peak since the start of this program is used, because getrusage may return
    the peak of the parent from which it was forked.
    """
    status = Path("/proc/self/status")
    if who == resource.RUSAGE_SELF and status.is_file():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(who).ru_maxrss / 1024


def nothing() -> dict[str, Any]:
    """The step of a task that is complete once it is loaded."""
    return {}
