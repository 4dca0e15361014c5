"""A feature network as a function of arrays, on MindSpore or onnxruntime.

uint8 (B, H, W, 3) -> layer2 (B, C2, h, w) and layer3 (B, C3, h/2, w/2).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.engine.session import open_network
from patchcore_runtime.stopping import held

Images = NDArray[np.uint8]
Network = Callable[[Images], tuple[NDArray[np.float32], NDArray[np.float32]]]


def mindspore_network(cell: Any) -> Network:
    """A MindSpore cell as a function of arrays."""
    import mindspore

    def run(images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with held():  # MindSpore compiles at the first call, and reports an interrupt as its own
            layer2, layer3 = cell(mindspore.Tensor(images))
            return layer2.asnumpy(), layer3.asnumpy()

    return run


def onnx_network(path: Path) -> Network:
    """A features.onnx as a function of arrays, on the cores that this process may use.

    The images run one at a time, as the runtime will run them. So their features are equal to the
    bit, and memory is that of one image; a batch would not be faster.
    """
    session = open_network(path)

    def run(images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        names = ["layer2", "layer3"]
        outputs = (session.run(names, {"images": image[None]}) for image in images)
        layers2, layers3 = zip(*outputs, strict=True)
        return np.concatenate(layers2), np.concatenate(layers3)

    return run
