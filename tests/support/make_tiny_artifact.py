"""Make artifacts/tiny again: `python tests/support/make_tiny_artifact.py artifacts/tiny`.

A real `fit`, with MindSpore, exports, calibration and self-test, of a network small enough to
commit. Its images are 64 x 64 plates of the demo. Only the folder's path is taken from argv.
"""

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from patchcore_build import FitJob, fit, make_config
from patchcore_build.backbone.extractor import Average, FeatureExtractor
from patchcore_build.data.demo import write_demo_dataset
from patchcore_build.data.training_inputs import Inputs

CHANNELS = (8, 12)


class TinyBody(nn.Cell):
    """Two seeded random convolutions: normalised (B, 3, H, W) -> strides 8 and 16."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(3, CHANNELS[0], 8, stride=8, pad_mode="valid", has_bias=False)
        self.conv3 = nn.Conv2d(CHANNELS[0], CHANNELS[1], 2, 2, pad_mode="valid", has_bias=False)
        self.relu = nn.ReLU()
        rng = np.random.default_rng(0)
        for parameter in self.get_parameters():
            fan_in = np.prod(parameter.shape[1:])
            values = rng.standard_normal(parameter.shape) / np.sqrt(fan_in)
            parameter.set_data(ms.Tensor(values, ms.float32))

    def construct(self, x: Any) -> Any:
        """Normalised (B, 3, H, W) -> (B, 8, H/8, W/8), (B, 12, H/16, W/16)."""
        layer2 = self.relu(self.conv2(x))
        return layer2, self.relu(self.conv3(layer2))


def choose_tiny(_job: FitJob, inputs: Inputs) -> tuple[Any, dict[str, str]]:
    """Return the network maker for `fit`."""
    height, width = inputs.grid.tile_px

    def make() -> Any:
        grids = [(height // cell_px, width // cell_px) for cell_px in (8, 16)]
        after = [Average(grid, 3, "counted") for grid in grids]
        cell = FeatureExtractor(TinyBody(), after, half=False)
        cell.set_train(False)
        cell.set_inputs(ms.Tensor(shape=[None, height, width, 3], dtype=ms.uint8))
        return cell

    return make, {"name": "seeded random, for tests"}


def make_tiny(output: Path) -> None:
    """Fit the tiny network on a dozen small images of the demo."""
    with tempfile.TemporaryDirectory() as scratch:
        category = write_demo_dataset(
            Path(scratch), train=12, test_good=1, per_defect=1, size_px=64, category="tiny"
        )
        fit(
            FitJob(
                images=category / "train" / "good",
                category="tiny",
                output=output,
                config=dataclasses.replace(
                    make_config("full-frame", resize_px=64, coreset_ratio=0.05), backbone="tiny"
                ),
                weights=None,
            ),
            choose_network=choose_tiny,
        )


if __name__ == "__main__":
    make_tiny(Path(sys.argv[1]))
