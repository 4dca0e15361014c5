"""Run hostile cases in monitored programs: refusal, time and memory of each.

case -> Outcome of the Python runtime (a child that answers one case after the other) and of the
C++ program (a process for each case). A crash, a hang or a growth of memory is an outcome, too.
"""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import patchcore_runtime

SITE = str(Path(patchcore_runtime.__file__).parents[1])
ANSWERER = Path(__file__).with_name("answerer.py")
HANG_S = 60.0  # a program that takes longer is killed; on a busy machine good ones take some
SLOWEST_S = 5.0  # for one case
SLACK_MIB = 32  # the allocators' and the engine's own, whatever the file


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of one case in one program; `refusal` is empty if the program accepted it."""

    refusal: str
    crash: str = ""
    seconds: float = 0.0
    grown_mib: float = 0.0


class PythonTrial:
    """The runtime in a child process for many cases, which is restarted when it dies."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None

    def measure_good_run(self, *, artifact: Path, image: Path) -> Outcome:
        """Score a good image, so that one-time memory, mainly the engine's, is allocated now."""
        return self.run(artifact=artifact, image=image)

    def run(self, *, artifact: Path, image: Path | None) -> Outcome:
        """Score an image, or run the artifact's self-test if no image is given."""
        child = self._child = self._child or self._start()
        timer = threading.Timer(HANG_S, child.kill)
        timer.start()
        start = time.perf_counter()
        try:
            request = {"artifact": str(artifact), "image": str(image) if image else None}
            child.stdin.write(json.dumps(request) + "\n")
            child.stdin.flush()
            answer = child.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            timer.cancel()
        if answer:
            return Outcome(**json.loads(answer))
        self._child = None
        seconds = time.perf_counter() - start
        code = child.wait()
        crash = "hangs" if seconds >= HANG_S else f"dies with {code}"
        return Outcome(refusal="", crash=crash, seconds=seconds)

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.stdin.close()
            self._child.stdout.close()
            self._child.wait()
            self._child = None

    @staticmethod
    def _start() -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": SITE}
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", str(ANSWERER)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip


class CppTrial:
    """The C++ program; memory is the growth beyond a good run of the same artifact."""

    def __init__(self, binary: Path) -> None:
        self._binary = binary
        self._usual_mib = 0.0

    def measure_good_run(self, *, artifact: Path, image: Path) -> Outcome:
        """Measure the memory with which later cases are compared."""
        outcome = self.run(artifact=artifact, image=image)
        self._usual_mib += outcome.grown_mib
        return outcome

    def run(self, *, artifact: Path, image: Path | None) -> Outcome:
        """Score an image, or run the self-test, with the engine's search, which reads all files."""
        what = ["--selftest"] if image is None else [str(image)]
        command = [str(self._binary), str(artifact), *what, "--search", "engine"]
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        timer = threading.Timer(HANG_S, child.kill)
        timer.start()
        said = child.stdout.read().decode("utf-8", "replace")
        _, status, usage = os.wait4(child.pid, 0)
        timer.cancel()
        child.stdout.close()
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        grown = usage.ru_maxrss / 1024 - self._usual_mib
        code = child.returncode
        crash = "" if code in (0, 1) else "hangs" if seconds >= HANG_S else f"dies with {code}"
        lines = [line for line in said.splitlines() if line.startswith("patchcore_infer: ")]
        refusal = lines[-1].removeprefix("patchcore_infer: ") if lines and code == 1 else ""
        if code == 1 and len(lines) != 1:
            crash = f"says {len(lines)} lines"
        return Outcome(refusal=refusal, crash=crash, seconds=seconds, grown_mib=grown)
