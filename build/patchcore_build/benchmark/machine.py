"""Describe the machine of a measurement: processor, cores, versions, date.

() -> plain dictionary for results files. Artifacts contain none of it.
"""

import importlib.metadata
import platform
from datetime import datetime, timezone
from pathlib import Path

from patchcore_runtime.engine.session import usable_cores

_PACKAGES = ("patchcore-build", "mindspore", "onnxruntime", "numpy")


def describe_machine() -> dict[str, str]:
    """Date (UTC), processor, usable cores, Python and package versions, as text."""
    machine = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "processor": _processor(),
        "cores": str(usable_cores()),
        "python": platform.python_version(),
    }
    return machine | {name: importlib.metadata.version(name) for name in _PACKAGES}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
