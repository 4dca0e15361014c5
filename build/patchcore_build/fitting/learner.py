"""The steps of a fit: training images -> features, rows of the bank, suspects and thresholds.

network + inputs -> features -> projection -> coreset -> memory bank -> calibration. The learner
holds what the steps share: settings, storage and clock. If images are dropped, steps run twice.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from patchcore_build.backbone.device import Device
from patchcore_build.backbone.network import Network
from patchcore_build.calibration.banks import TrainingFeatures, bank_of, choose_rows, open_scorer
from patchcore_build.calibration.folds import every_image_alone, group_images, join_equal
from patchcore_build.calibration.held_out import calibrate, score_held_out
from patchcore_build.calibration.one_image import calibrate_with_one
from patchcore_build.calibration.suspects import Suspect, choose_suspects, leave_one_out
from patchcore_build.config import Config
from patchcore_build.coreset.checkpoint import make_folder
from patchcore_build.coreset.cloud import PatchCloud
from patchcore_build.coreset.select import coreset_size, projection_size, random_projection
from patchcore_build.data.training_inputs import Inputs, keep_inputs
from patchcore_build.features.store import FeatureStore, extract_features, keep_images
from patchcore_build.fitting.review import write_review
from patchcore_build.progress import Stopwatch
from patchcore_build.storage import Storage
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.files.staging import scratch_folder
from patchcore_runtime.manifest.calibration import Calibration

# A sorted copy of the patches saves a fifth of the coreset's time at 10 % and nothing at 1 %. So it
# gets an eighth of the budget, and nothing below a coreset ratio of 5 %.
_COPY_SHARE = 8
_COPY_RATIO = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class Learner:
    """The steps of a fit that use all images at once.

    `groups` is a regular expression for `group_images`; None makes each image a group of its own.
    `checkpoints` is a folder for unfinished coresets.
    """

    config: Config
    device: Device
    groups: str | None
    checkpoints: Path | None
    storage: Storage
    clock: Stopwatch

    def features(self, network: Network, inputs: Inputs) -> FeatureStore:
        """Compute both layers of every image."""
        patches = inputs.pixels[..., 0].size // inputs.grid.patch_px**2
        with self.clock.shown("features", "image") as progress:
            store = extract_features(
                network,
                inputs.pixels,
                upsampling=self.config.upsampling,
                storage=self.storage,
                bank_rows=coreset_size(patches, self.config.coreset_ratio),
                progress=progress,
            )
        return replace(store, grid=inputs.grid, region=inputs.roi)

    def prepare(self, store: FeatureStore, inputs: Inputs) -> TrainingFeatures:
        """Project the patches, and sort them once for the bank and for every fold."""
        groups = image_groups(inputs, self.groups)
        projected = self._project(store)
        with self.clock.shown("coreset"):
            cloud = self._sort(projected)
        if self.checkpoints is not None:
            make_folder(self.checkpoints)
        return TrainingFeatures(
            store=store,
            cloud=cloud,
            groups=groups,
            counted=np.unique(inputs.first_equal),
            size=inputs.preprocessing,
            config=self.config,
            checkpoints=self.checkpoints,
        )

    def choose(self, training: TrainingFeatures, name: str) -> NDArray[np.int64]:
        """Choose the rows of the memory bank; `name` is the name of their checkpoint."""
        with self.clock.shown("coreset", "row") as progress:
            return choose_rows(training, name=name, progress=progress)

    def bank(self, training: TrainingFeatures, rows: NDArray[np.int64]) -> MemoryBank:
        """Make the memory bank of some rows."""
        with self.clock.shown("memory bank"):
            return bank_of(training, rows)

    def review(
        self,
        training: TrainingFeatures,
        rows: NDArray[np.int64],
        inputs: Inputs,
        *,
        drop: int | Literal["auto"],
        page: Path | None,
    ) -> tuple[Suspect, ...]:
        """Score every image without its own rows, and choose the images to leave out.

        Args:
            training: Features of all images.
            rows: Rows of their bank.
            inputs: The same images.
            drop: How many images to leave out, or `auto`.
            page: Folder for a page with the most suspicious images; None writes no page.

        Raises:
            DatasetError: fewer than two images would remain.
        """
        bank = self.bank(training, rows)
        with (
            self.clock.shown("suspects", "image") as progress,
            scratch_folder() as folder,
        ):
            scorer = open_scorer(training, bank, folder)
            found = leave_one_out(training, bank, scorer, progress)
            suspects = choose_suspects(found.scores, inputs.names, drop)
            if page is not None:
                write_review(page, found, training, inputs, suspects)
        return suspects

    def calibrate(self, training: TrainingFeatures) -> Calibration:
        """Estimate thresholds with banks that never saw the images they score.

        Raises:
            DatasetError: there is one image, and it is too small to be compared with itself.
        """
        with (
            self.clock.shown("calibration", "image") as progress,
            scratch_folder() as folder,
        ):
            if not training.groups.any():
                return calibrate_with_one(training, folder=folder)
            scores = score_held_out(training, folder=folder, progress=progress)
            return calibrate(scores, self.config)

    def _project(self, store: FeatureStore) -> NDArray[np.float32]:
        count = store.images * store.patches_per_image
        matrix = random_projection(
            sum(store.channels), projection_size(count), seed=self.config.seed
        )
        projected = self.storage.allocate((count, matrix.shape[1]))
        with self.clock.shown("projection", "image") as progress:
            store.project(matrix, projected, progress)
        return projected

    def _sort(self, projected: NDArray[np.float32]) -> PatchCloud:
        product, budget = None, self.storage.left // _COPY_SHARE
        if self.device != "cpu":
            from patchcore_build.coreset.device_product import DeviceProduct

            product = DeviceProduct()
        elif self.config.coreset_ratio < _COPY_RATIO:
            budget = 0
        cloud = PatchCloud.of(projected, memory_budget_bytes=budget, product=product)
        if cloud.loaded:
            self.storage.set_aside(projected.nbytes)
        return cloud


def image_groups(inputs: Inputs, pattern: str | None) -> NDArray[np.int64]:
    """Group number of each image, (N,): by its name if there is a pattern, and with its copies.

    A rotated view has the group of its photograph.

    Raises:
        DatasetError: the pattern does not fit the names, or puts different images into one group.
    """
    names = [inputs.names[at - at % inputs.views] for at in range(len(inputs.names))]
    groups = group_images(names, pattern) if pattern else every_image_alone(len(names))
    return join_equal(groups, inputs.first_equal)


def without(
    suspects: tuple[Suspect, ...], store: FeatureStore, inputs: Inputs
) -> tuple[FeatureStore, Inputs]:
    """Features and inputs without the suspects; the old store is invalid afterwards."""
    kept = np.setdiff1d(np.arange(store.images), [suspect.image for suspect in suspects])
    return keep_images(store, kept), keep_inputs(inputs, kept)
