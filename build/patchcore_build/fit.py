"""A folder of good photographs -> an artifact folder: the whole of the workshop, in order.

pictures -> features -> coreset -> memory bank -> thresholds -> exports -> self-test -> checksums.
Everything is written to a folder beside the target and renamed into place at the end.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_build.artifact_writer import (
    EXACT_INDEX,
    Making,
    new_folder,
    provenance,
    write_manifest,
)
from patchcore_build.calibration import calibrate, score_held_out
from patchcore_build.config import Config, describe_features
from patchcore_build.coreset import (
    coreset_size,
    projection_size,
    random_projection,
    select_coreset,
)
from patchcore_build.coreset_checkpoint import (
    checkpoint_in,
    clear_checkpoints,
    make_folder,
)
from patchcore_build.dataset import ImageFolder, list_images
from patchcore_build.device import Device, open_device
from patchcore_build.features import (
    FeatureStore,
    Network,
    Storage,
    extract_features,
    make_bank,
    mindspore_network,
)
from patchcore_build.float32_twin import Float32Twin
from patchcore_build.index_graph import write_bank
from patchcore_build.patch_cloud import PatchCloud
from patchcore_build.progress import progress_bar
from patchcore_build.training_inputs import Inputs, load_inputs
from patchcore_runtime.artifact import FEATURES_MINDIR, FEATURES_ONNX, INDEX_MINDIR
from patchcore_runtime.index import ExactIndex
from patchcore_runtime.manifest import Calibration
from patchcore_runtime.memory_bank import MemoryBank

CellMaker = Callable[[], Any]  # a fresh, ready cell each time: an export wants one of its own
NetworkChooser = Callable[["FitJob", Inputs], tuple[CellMaker, dict[str, str]]]

EXPORT_TOLERANCE = 1e-4  # relative, of features.onnx and features.mindir against MindSpore
_GIB = 2**30
_COPY_SHARE = 8


@dataclass(frozen=True, kw_only=True)
class FitJob:
    """What to build, from what, where.

    `images` is a folder, or the listing that a data set gives.
    `weights` is a file, `auto` (torchvision's, downloaded once), `random` (seeded, for benchmarks)
    or `None` for the scattering network. Arrays beyond `memory_budget_gb` go to files.
    `roi` is a mask picture or a polygon of what counts, see `roi.plan_region`.
    `checkpoints` is a folder where unfinished coresets are kept, so that a fit that was
    interrupted takes them up again; emptied of them in the end. Where
    `config.feature_precision` is int8, the category of the data set `test_set` is scored before
    and after quantization, and a loss of AUROC above `LARGEST_LOSS` is refused unless `force`.
    """

    images: Path | ImageFolder
    category: str
    output: Path
    config: Config
    weights: str | None
    device: Device = "cpu"
    device_id: int = 0
    skip_bad: bool = False
    memory_budget_gb: float = 8.0
    roi: str | Path | None = None
    checkpoints: Path | None = None
    test_set: Path | None = None
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """What was built and how long each stage took."""

    artifact: Path
    images: int
    skipped: tuple[str, ...]
    strays: int
    input_size: tuple[int, int]
    tiles: int  # of a picture
    region_share: float  # of the input's pixels, those that count
    rows: int
    calibration: Calibration
    export_difference: dict[str, float]
    quantization: dict[str, Any] | None = None  # as in the manifest's provenance
    seconds: dict[str, float] = field(default_factory=dict)


def fit(job: FitJob, *, choose_network: NetworkChooser | None = None) -> FitReport:
    """Build an artifact.

    Args:
        job: What to build.
        choose_network: Brings the feature network; by default the backbone and weights that the
            job names.

    Raises:
        PatchCoreError: one of its kinds, when pictures, weights, device, exports or the output
            folder are not what they should be; nothing is left behind.
    """
    clock = _Stopwatch()
    with (
        new_folder(job.output) as staging,
        tempfile.TemporaryDirectory(prefix="patchcore-") as scratch,
    ):
        with clock.stage("start MindSpore"):
            open_device(job.device, device_id=job.device_id, precision=job.config.precision)
        storage = Storage(Path(scratch), budget_bytes=int(job.memory_budget_gb * _GIB))
        folder = list_images(job.images) if isinstance(job.images, Path) else job.images
        with clock.stage("read pictures"), progress_bar("pictures", "image") as progress:
            inputs = load_inputs(
                folder,
                job.config,
                storage,
                skip_bad=job.skip_bad,
                roi=job.roi,
                progress=progress,
            )
        with clock.stage("weights"):
            make_cell, weights_source = (choose_network or _named_network)(job, inputs)
        with clock.stage("export"):
            difference = _export(make_cell, staging, inputs, job.config)
        store = _features(mindspore_network(make_cell()), job.config, inputs, storage, clock)
        projected = _project(store, job.config, storage, clock)
        with clock.stage("coreset"):
            cloud = _prepare(projected, storage, job.device)
        rows = _select(cloud, store, job, clock)
        bank = _bank(store, rows, job.config, clock)
        twin = None
        if job.config.feature_precision == "int8":
            # The rows stay: what differs from float32 is then arithmetic, not the draw of rows.
            twin = Float32Twin(staging, Path(scratch) / "float32", inputs, job.config)
            with clock.stage("quantize"):
                network = twin.quantize(bank)
            store = _features(network, job.config, inputs, storage, clock)
            bank = _bank(store, rows, job.config, clock)
        with clock.stage("write"):
            features = describe_features(job.config, inputs.preprocessing, bank.channels)
            index_path = write_bank(staging, bank, features)
        with clock.stage("export"):
            has_mindir = features.precision == "float32"
            candidates = _export_shortlist(staging, bank, index_path, store) if has_mindir else 0
        if twin is not None and job.test_set is not None:
            with clock.stage("float32 against int8"):
                twin.compare(job.category, job.test_set, force=job.force)
        calibration = _calibrate(store, cloud, job, inputs, clock)
        quantization = twin.facts if twin is not None else None
        with clock.stage("write"):
            write_manifest(
                staging,
                inputs,
                calibration,
                Making(
                    category=job.category,
                    config=job.config,
                    provenance=provenance(
                        staging,
                        weights=weights_source,
                        device=job.device,
                        quantization=quantization,
                    ),
                    index=dataclasses.replace(EXACT_INDEX, mindir_candidates=candidates),
                ),
            )
    if job.checkpoints is not None:
        clear_checkpoints(job.checkpoints)
    return FitReport(
        artifact=job.output,
        images=len(inputs.names),
        skipped=inputs.skipped,
        strays=folder.strays,
        input_size=(inputs.preprocessing.height, inputs.preprocessing.width),
        tiles=inputs.grid.tiles,
        region_share=1.0 if inputs.roi is None else inputs.roi.share,
        rows=bank.rows,
        calibration=calibration,
        export_difference=difference,
        quantization=quantization,
        seconds=clock.seconds,
    )


def _named_network(job: FitJob, inputs: Inputs) -> tuple[CellMaker, dict[str, str]]:
    from patchcore_build.parameters import make_network

    with progress_bar("weights", "byte") as progress:
        return make_network(job.config, job.weights, inputs, progress=progress)


class _Stopwatch:
    """Seconds per named stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def _export(
    make_cell: CellMaker, staging: Path, inputs: Inputs, config: Config
) -> dict[str, float]:
    """Write the graphs and compare each with MindSpore on two of the pictures.

    What becomes int8 is only written as ONNX: features.mindir would be another network.
    """
    from patchcore_build.export import compare_mindir, compare_onnx, export_mindir, export_onnx

    height, width = inputs.grid.tile_px
    pixels = np.ascontiguousarray(inputs.pixels[:2])
    expected = mindspore_network(make_cell())(pixels)
    onnx_path, mindir_path = staging / FEATURES_ONNX, staging / FEATURES_MINDIR
    export_onnx(make_cell, onnx_path, height=height, width=width)
    gap = compare_onnx(onnx_path, pixels, expected, tolerance=EXPORT_TOLERANCE)
    if config.feature_precision == "int8":
        return {FEATURES_ONNX: gap}
    export_mindir(make_cell, mindir_path, height=height, width=width)
    return {
        FEATURES_ONNX: gap,
        FEATURES_MINDIR: compare_mindir(mindir_path, pixels, expected, tolerance=EXPORT_TOLERANCE),
    }


def _export_shortlist(
    staging: Path, bank: MemoryBank, index_path: Path, store: FeatureStore
) -> int:
    """Write index.mindir and hold it against the exact search on two of the pictures; returns S."""
    from patchcore_build.index_mindir import check_shortlist, write_shortlist

    path = staging / INDEX_MINDIR
    candidates = write_shortlist(path, bank)
    if candidates:
        pictures = [store.as_network_output(image) for image in range(min(2, store.images))]
        layer2, layer3 = (np.concatenate(layers) for layers in zip(*pictures, strict=True))
        index = ExactIndex(index_path, threads=1)
        check_shortlist(path, bank, index, (layer2, layer3), store.upsampling)
    return candidates


def _features(
    network: Network, config: Config, inputs: Inputs, storage: Storage, clock: _Stopwatch
) -> FeatureStore:
    with clock.stage("features"), progress_bar("features", "image") as progress:
        store = extract_features(
            network,
            inputs.pixels,
            upsampling=config.layer3_upsampling,
            storage=storage,
            progress=progress,
        )
        return dataclasses.replace(store, grid=inputs.grid, region=inputs.roi)


def _project(
    store: FeatureStore, config: Config, storage: Storage, clock: _Stopwatch
) -> NDArray[np.float32]:
    count = store.images * store.patches_per_image
    matrix = random_projection(
        store.layer2.shape[3] + store.layer3.shape[3], projection_size(count), seed=config.seed
    )
    projected = storage.allocate((count, matrix.shape[1]))
    with clock.stage("projection"), progress_bar("projection", "image") as progress:
        store.project(matrix, projected, progress)
    return projected


def _prepare(projected: NDArray[np.float32], storage: Storage, device: Device) -> PatchCloud:
    """Sort the projected features once, for the bank and for every fold."""
    product = None
    if device != "cpu":
        from patchcore_build.coreset_device import DeviceProduct

        product = DeviceProduct()
    # A sorted copy saves a fifth of the coreset's time: not worth more than some of the budget.
    budget = storage.left // _COPY_SHARE
    return PatchCloud.of(projected, memory_budget_bytes=budget, product=product)


def _select(
    cloud: PatchCloud, store: FeatureStore, job: FitJob, clock: _Stopwatch
) -> NDArray[np.int64]:
    config = job.config
    rows = None if store.region is None else store.rows_of(np.arange(store.images))
    if job.checkpoints is not None:
        make_folder(job.checkpoints)
    with clock.stage("coreset"), progress_bar("coreset", "row") as progress:
        return select_coreset(
            cloud,
            coreset_size(len(cloud.features if rows is None else rows), config.coreset_ratio),
            seed=config.seed,
            rows=rows,
            checkpoint=checkpoint_in(job.checkpoints, "bank"),
            progress=progress,
        )


def _bank(
    store: FeatureStore, rows: NDArray[np.int64], config: Config, clock: _Stopwatch
) -> MemoryBank:
    with clock.stage("memory bank"):
        return make_bank(store, rows, config.neighbours, precision=config.bank_precision)


def _calibrate(
    store: FeatureStore,
    cloud: PatchCloud,
    job: FitJob,
    inputs: Inputs,
    clock: _Stopwatch,
) -> Calibration:
    with (
        clock.stage("calibration"),
        progress_bar("calibration", "image") as progress,
        tempfile.TemporaryDirectory(prefix="patchcore-") as folder,
    ):
        scores = score_held_out(
            store,
            cloud,
            job.config,
            inputs.preprocessing,
            folder=Path(folder),
            checkpoints=job.checkpoints,
            progress=progress,
        )
        return calibrate(scores, job.config)
