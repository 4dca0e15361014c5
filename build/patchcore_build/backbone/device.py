"""Configure MindSpore: device name -> MindSpore uses that device, or an error in one line.

Call it before the first operator runs, because it sets two environment variables that MindSpore
reads at that moment. Without them oneDNN selects its *reference* convolution on AVX-512 machines
(10 s instead of 0.1 s per wide_resnet50_2 image, measured with MindSpore 2.9 and 2.10), and
MindSpore logs warnings about missing plugins.
"""

import os
from typing import Literal

from patchcore_build.errors import DeviceError

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
    import mindspore

    target = _TARGETS[device]
    if device != "cpu" and not mindspore.hal.is_available(target):
        raise DeviceError(
            f"--device {device}: MindSpore {mindspore.__version__} finds no {target} device here; "
            "use --device cpu, or install the MindSpore build and driver of that device"
        )
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    mindspore.set_device(target, device_id)
