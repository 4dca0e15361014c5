"""Memory of this process that no file backs: what the kernel cannot take back at will.

Linux keeps no peak of it, so a thread looks every 10 ms. Pages of mapped files count as resident
too while they are cached, but they give way to whoever needs memory.
"""

import threading
from pathlib import Path
from types import TracebackType

_STATUS = Path("/proc/self/status")


def anonymous_mb() -> float:
    """Resident memory that no file backs, in MiB, now."""
    return int(_STATUS.read_text(encoding="utf-8").split("RssAnon:")[1].split()[0]) / 1024


class AnonymousPeak:
    """`with AnonymousPeak() as peak: ...`, then `peak.mb`."""

    def __init__(self, *, every_s: float = 0.01) -> None:
        self.mb = 0.0
        self._every_s = every_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "AnonymousPeak":
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Look no more."""
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.is_set():
            self.mb = max(self.mb, anonymous_mb())
            self._done.wait(self._every_s)
