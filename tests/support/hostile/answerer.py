"""The child of PythonTrial: a line of JSON with a case in, the runtime's outcome out.

It imports only the runtime, so that only the runtime's memory is measured.
"""

import json
import resource
import sys
import time
from pathlib import Path

from patchcore_runtime import Artifact, Detector, PatchCoreError
from patchcore_runtime.selftest import run_selftest


def _answer(request):
    """Score the image of one case, or run the artifact's self-test if the case has no image."""
    before, start = _peak_mib(reset=True), time.perf_counter()
    refusal = crash = ""
    try:
        if request["image"] is not None:
            Detector.load(request["artifact"], threads=1).predict(request["image"])
        else:
            artifact = Artifact.open(request["artifact"])
            artifact.verify()
            steps = run_selftest(artifact, threads=1)
            broken = [step.name for step in steps if not step.passed]
            refusal = f"the self-test breaks at `{broken[0]}`" if broken else ""
    except PatchCoreError as error:
        refusal = str(error)
    except BaseException as error:  # any other exception is a finding
        crash = f"{type(error).__name__}: {error!s:.200}"
    seconds = time.perf_counter() - start
    grown = max(0.0, _peak_mib() - before)
    return {"refusal": refusal, "crash": crash, "seconds": seconds, "grown_mib": grown}


def _peak_mib(*, reset=False):
    """Return the peak memory since the last reset (Linux), else since the process started."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _serve() -> None:
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    _serve()
