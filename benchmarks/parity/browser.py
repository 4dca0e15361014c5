"""Score images in headless Chromium with onnxruntime-web (WebAssembly, one thread).

exported files and PNG images -> scores, maps and times. The page uses docs/how-to/browser/score.js.
A server on this machine's own address hands out everything, and the browser resolves no other name.
"""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.places import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WEB = ROOT / "tests" / "web" / "node_modules" / "onnxruntime-web" / "dist"
EXAMPLE = ROOT / "docs" / "how-to" / "browser"
PATIENCE_S = 300
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)  # fmt: skip
_TYPES = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm"}
_PAGE = """<!doctype html><meta charset="utf-8"><title>scoring</title>
<script type="importmap">{ "imports": { "onnxruntime-web": "/ort/ort.wasm.min.mjs" } }</script>
<script type="module">
  const say = (found) => fetch("/found", { method: "POST", body: JSON.stringify(found) });
  try {
    const { loadDetector, readPixels, scorePixels } = await import("/score.js");
    const found = [];
    for (const { model, images, rounds } of JOBS) {
      const detector = await loadDetector(model);
      for (const address of images) {
        const pixels = await readPixels(await (await fetch(address)).blob());
        let best = Infinity, result;
        for (let round = 0; round < rounds; round++) {
          const start = performance.now();
          result = await scorePixels(detector, pixels);
          best = Math.min(best, performance.now() - start);
        }
        found.push({ ...result, map: Array.from(result.map), milliseconds: best });
      }
      await detector.release();
    }
    await say({ found });
  } catch (error) {
    await say({ error: String(error.stack ?? error) });
  }
</script>
"""


@dataclass(frozen=True, kw_only=True)
class WebJob:
    """One exported file and PNG images of the size that it takes."""

    model: Path
    images: Sequence[Path]
    rounds: int = 1  # of each image; the best time counts


def missing() -> str | None:
    """Return what is missing for a run in the browser, and what installs it; None: nothing."""
    if CHROMIUM is None:
        return "no chromium here; Debian's package `chromium` would run it"
    if not (WEB / "ort.wasm.min.mjs").is_file():
        return "no onnxruntime-web; `npm ci --prefix tests/web --ignore-scripts` would run it"
    return None


def score_in_browser(jobs: Sequence[WebJob], profile: Path) -> list[dict[str, Any]]:
    """Score all images of all jobs, in order.

    Args:
        jobs: Files and images.
        profile: A folder for the browser's own files.

    Returns:
        For each image `score`, `isAnomalous`, `map` (a list row by row), `height`, `width` and
        `milliseconds`.

    Raises:
        RuntimeError: the page reports an error, or says nothing for five minutes.
    """
    files = {"/score.js": EXAMPLE / "score.js"}
    files |= {f"/ort/{path.name}": path for path in WEB.iterdir() if path.suffix in _TYPES}
    listed = []
    for number, job in enumerate(jobs):
        images = [f"/{number}-{place}.png" for place in range(len(job.images))]
        files |= dict(zip(images, job.images, strict=True)) | {f"/{number}.onnx": job.model}
        listed.append({"model": f"/{number}.onnx", "images": images, "rounds": job.rounds})
    page = _PAGE.replace("JOBS", json.dumps(listed)).encode()
    answers: list[dict[str, Any]] = []
    with _server(page, files, answers) as (address, done), _browser(address, profile):
        done.wait(PATIENCE_S)
    if not answers or "error" in answers[0]:
        raise RuntimeError(f"browser: {answers[0]['error'] if answers else 'no answer'}")
    found: list[dict[str, Any]] = answers[0]["found"]
    return found


@contextmanager
def _browser(address: str, profile: Path) -> Iterator[None]:
    command = [str(CHROMIUM), *_FLAGS, f"--user-data-dir={profile}", address]
    silent = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=silent, stderr=silent) as running:
        try:
            yield
        finally:
            running.terminate()


@contextmanager
def _server(
    page: bytes, files: dict[str, Path], answers: list[dict[str, Any]]
) -> Iterator[tuple[str, threading.Event]]:
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is http.server's
            path = files.get(self.path)
            if self.path != "/" and path is None:
                self.send_error(404)
                return
            content = page if path is None else path.read_bytes()
            kind = "text/html" if path is None else _TYPES.get(path.suffix, "application/x-binary")
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:  # the name is http.server's
            answers.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            done.set()

        def log_message(self, *_values: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", done
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
