"""Configure MindSpore: device name -> MindSpore uses that device, or an error in one line.

Call it before the first operator runs, because it sets two environment variables that MindSpore
reads at that moment. Without them oneDNN selects its *reference* convolution on AVX-512 machines
(10 s instead of 0.1 s per wide_resnet50_2 image, measured with MindSpore 2.9 and 2.10), and
MindSpore logs warnings about missing plugins. MindSpore leaves a SIGINT handler behind, which would
end the process without cleaning up.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from patchcore_build.errors import DeviceError
from patchcore_runtime.stopping import held

Device = Literal["cpu", "ascend", "gpu"]
_TARGETS = {"cpu": "CPU", "ascend": "Ascend", "gpu": "GPU"}


def open_device(device: Device = "cpu", *, device_id: int = 0, precision: str = "fp32") -> None:
    """Import MindSpore and select a device, in graph mode.

    Raises:
        DeviceError: the device is unavailable, or does not support the precision well.
    """
    if precision == "fp16" and device == "cpu":
        raise DeviceError(
            "--precision fp16: on a CPU MindSpore is slower in fp16 than in fp32; "
            "use --precision fp32, or --device ascend"
        )
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    os.environ.setdefault("GLOG_v", "3")  # MindSpore's log: errors only
    with held(), _own_signal_handlers():
        _select(device, device_id)


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Install this process's handlers again after the block: MindSpore replaces that of SIGINT."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            if handler is not None:  # None: it was not installed from Python
                signal.signal(number, handler)


def _select(device: Device, device_id: int) -> None:
    import mindspore

    target = _TARGETS[device]
    if device != "cpu" and not mindspore.hal.is_available(target):
        raise DeviceError(
            f"--device {device}: MindSpore {mindspore.__version__} finds no {target} device here; "
            "use --device cpu, or install the MindSpore build and driver of that device"
        )
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    mindspore.set_device(target, device_id)
