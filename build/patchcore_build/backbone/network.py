"""A feature network as a function of arrays, on MindSpore or onnxruntime.

uint8 (B, H, W, 3) -> its layers, (B, C, h/s, w/s) each.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.engine.session import open_network
from patchcore_runtime.stopping import held

Images = NDArray[np.uint8]
Network = Callable[[Images], tuple[NDArray[np.float32], ...]]


def mindspore_network(cell: Any) -> Network:
    """A MindSpore cell as a function of arrays."""
    import mindspore

    def run(images: Images) -> tuple[NDArray[np.float32], ...]:
        with held():  # MindSpore compiles at the first call, and reports an interrupt as its own
            return tuple(layer.asnumpy() for layer in cell(mindspore.Tensor(images)))

    return run


def onnx_network(path: Path) -> Network:
    """A features.onnx as a function of arrays, on the cores that this process may use.

    The images run one at a time, as the runtime will run them. So their features are equal to the
    bit, and memory is that of one image; a batch would not be faster.
    """
    session = open_network(path)

    def run(images: Images) -> tuple[NDArray[np.float32], ...]:
        outputs = (session.run(session.outputs, {"images": image[None]}) for image in images)
        return tuple(np.concatenate(layer) for layer in zip(*outputs, strict=True))

    return run
