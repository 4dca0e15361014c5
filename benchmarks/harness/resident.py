"""Anonymous memory of this process, which no file backs and the kernel cannot reclaim freely.

Linux records no peak of it, so a thread samples it every 10 ms. Cached pages of mapped files count
as resident, too, but the kernel can release them whenever memory is needed.
"""

import threading
from pathlib import Path
from types import TracebackType

_STATUS = Path("/proc/self/status")


def anonymous_mb() -> float:
    """Return the current resident memory that no file backs, in MiB."""
    return int(_STATUS.read_text(encoding="utf-8").split("RssAnon:")[1].split()[0]) / 1024


class AnonymousPeak:
    """`with AnonymousPeak() as peak: ...`, then `peak.mb`."""

    def __init__(self, *, every_s: float = 0.01) -> None:
        self.mb = 0.0
        self._every_s = every_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "AnonymousPeak":
        """Start sampling."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop sampling."""
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.is_set():
            self.mb = max(self.mb, anonymous_mb())
            self._done.wait(self._every_s)
