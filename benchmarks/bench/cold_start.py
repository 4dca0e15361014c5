"""Time the command `patchcore-runtime score` with one image, until its line of JSON.

Run as a program, this module does the same steps and times each:

    python -m benchmarks.bench.cold_start ARTIFACT IMAGE STARTED

STARTED is time.monotonic() of the parent at the start; -> JSON of seconds for each step.
"""

import sys
import time

_COMMAND = "import sys; from patchcore_runtime.cli.main import main; sys.exit(main())"


def start_once(artifact: str, image: str) -> float:
    """Measure the seconds from the start of the process to its line of JSON."""
    import json
    import subprocess

    command = [sys.executable, "-c", _COMMAND, "score", artifact, image]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline() if process.stdout else ""
        seconds = time.perf_counter() - start
    if "score" not in json.loads(line or "{}"):
        raise SystemExit(f"{artifact}: expected a line of JSON with a score, got {line!r}")
    return seconds


def told_once(artifact: str, image: str) -> dict[str, float]:
    """Measure the seconds of each step."""
    import json
    import subprocess

    command = [
        sys.executable,
        "-m",
        "benchmarks.bench.cold_start",
        artifact,
        image,
        str(time.monotonic()),
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    steps: dict[str, float] = json.loads(done.stdout)
    return steps


def main(artifact: str, image: str, started: float) -> None:
    """Do the steps of the command and print their times."""
    begun = time.monotonic()
    import json

    import onnxruntime  # noqa: F401 - the command imports it with the first session

    from patchcore_runtime import Detector
    from patchcore_runtime.artifact.folder import Artifact

    imported = time.monotonic()
    opened = Artifact.open(artifact, verify=True)
    verified = time.monotonic()
    detector = Detector(opened)
    loaded = time.monotonic()
    detector.predict(image)
    scored = time.monotonic()
    steps = {
        "start of Python": begun - started,
        "imports": imported - begun,
        "verify": verified - imported,
        "sessions": loaded - verified,
        "predict": scored - loaded,
    }
    print(json.dumps(steps))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
