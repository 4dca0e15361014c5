r"""Do thresholds hold on unseen good images, are contaminated training sets cleaned? -> a report.

    python -m benchmarks.studies.thresholds --shared ../shared \
        --output benchmarks/results/thresholds.md

Features are extracted once per category and kept below --cache with the measurements of each seed,
so a second run only writes the report. ResNet-18, paper recipe at a smaller size (resize 182, crop
160), 1 % coreset. For each seed one `fit`'s coreset and calibration run on

    bottle, 209: all of train/good; judged on test/good (20 images)
    bottle, 150: of all 229 good images, drawn by the seed; judged on the other 79
    magnetic_tile, 250: of train/good, drawn by the seed; judged on the other 512 and test/good
"""

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.studies.thresholds_tables import DRAWS, SEEDS, SPOILT, SPOILT_SHARE, Scores, report
from patchcore_build.backbone.device import open_device
from patchcore_build.backbone.network import mindspore_network
from patchcore_build.backbone.parameters import make_network
from patchcore_build.calibration.banks import TrainingFeatures, bank_of, choose_rows, open_scorer
from patchcore_build.calibration.folds import every_image_alone
from patchcore_build.calibration.held_out import score_held_out
from patchcore_build.calibration.suspects import choose_suspects, leave_one_out
from patchcore_build.config import Config, make_config, plan_preprocessing
from patchcore_build.coreset.cloud import PatchCloud
from patchcore_build.coreset.select import projection_size, random_projection
from patchcore_build.data.dataset import open_dataset
from patchcore_build.data.training_inputs import load_inputs
from patchcore_build.features.store import FeatureStore, extract_features
from patchcore_build.storage import Storage
from patchcore_runtime.image.preprocess import preprocess

CONFIG = make_config("paper", backbone="resnet18", resize_px=182, crop_px=160)
ROOTS = {"bottle": "mvtec", "magnetic_tile": "mtd"}


@dataclass(frozen=True, eq=False)
class Category:
    """Features of every image, and its kind: `train`, `good`, or a defect."""

    store: FeatureStore
    kinds: NDArray[np.str_]

    def of(self, kind: str) -> NDArray[np.int64]:
        """Return the numbers of the images of a kind; `bad` means all defects."""
        if kind == "bad":
            return np.flatnonzero((self.kinds != "train") & (self.kinds != "good"))
        return np.flatnonzero(self.kinds == kind)

    def take(self, images: NDArray[np.int64]) -> FeatureStore:
        """Copy some images' features."""
        layer2, layer3 = (np.ascontiguousarray(a[images]) for a in self.layers)
        return FeatureStore(layers=(layer2, layer3), upsampling="bilinear")

    @property
    def layers(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return both layers of all images."""
        return self.store.layers[0], self.store.layers[1]


def main() -> None:
    """Measure what is not cached, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True, help="holds data/ and weights/")
    parser.add_argument("--cache", type=Path, default=Path("out/thresholds"))
    parser.add_argument("--output", type=Path, help="the report; without it, only measure")
    parser.add_argument("--only", help="measure this category alone")
    arguments = parser.parse_args()
    shared, cache = arguments.shared, arguments.cache
    for name in ROOTS if arguments.only is None else [arguments.only]:
        category = open_category(name, shared, cache)
        for of, draw, count in DRAWS:
            for seed in SEEDS if of == name else ():
                measure_draw(category, cache / f"{of}-{draw}-{count}-{seed}.npz", draw, count, seed)
        for of, count, seeds in SPOILT:
            for seed in seeds if of == name else ():
                measure_spoilt(category, cache / f"{of}-spoilt-{count}-{seed}.npz", count, seed)
    if arguments.output:
        arguments.output.write_text(report(cache), encoding="utf-8")


def open_category(name: str, shared: Path, cache: Path) -> Category:
    """Load features of a category; they are extracted on the first call."""
    folder = cache / name
    if not (folder / "kinds.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _extract(name, shared, folder)
    layer2, layer3 = (np.load(folder / f"{part}.npy", mmap_mode="r") for part in ("l2", "l3"))
    store = FeatureStore(layers=(layer2, layer3), upsampling="bilinear")
    return Category(store, np.load(folder / "kinds.npy"))


def _extract(name: str, shared: Path, folder: Path) -> None:
    open_device()
    dataset = open_dataset(shared / "data" / ROOTS[name])
    storage = Storage(folder, budget_bytes=2**34)
    inputs = load_inputs(dataset.training_images(name), CONFIG, storage)
    tests = dataset.test_images(name)
    pixels = [preprocess(image.path, inputs.preprocessing)[0] for image in tests]
    weights = str(shared / "weights" / "resnet18-layers123.pth")
    make_cell, _ = make_network(CONFIG, weights, inputs)
    store = extract_features(
        mindspore_network(make_cell()),
        np.concatenate([inputs.pixels, np.stack(pixels)]),
        upsampling=CONFIG.upsampling,
        storage=storage,
    )
    np.save(folder / "l2.npy", store.layers[0])
    np.save(folder / "l3.npy", store.layers[1])
    kinds = ["train"] * len(inputs.names) + [image.defect for image in tests]
    np.save(folder / "kinds.npy", np.array(kinds))


def measure_draw(category: Category, target: Path, draw: str, count: int, seed: int) -> None:
    """Return held-out scores of a training set, and scores of all other images."""
    if target.exists():
        return
    rng = np.random.default_rng(1000 + seed)
    train, good = category.of("train"), category.of("good")
    pool = rng.permutation(np.concatenate([train, good]) if draw == "pool" else train)
    learned = np.sort(pool[:count])
    unseen = pool[count:] if draw == "pool" else np.concatenate([good, np.sort(pool[count:])])
    scores, _ = _measure(category, learned, unseen, category.of("bad"), seed)
    np.savez(target, **scores)
    print(target.name, flush=True)


def measure_spoilt(category: Category, target: Path, count: int, seed: int) -> None:
    """Measure clean, contaminated and cleaned training sets; their defects are not judged."""
    if target.exists():
        return
    rng = np.random.default_rng(seed)
    clean = np.sort(rng.permutation(category.of("train"))[:count])
    defects = rng.permutation(category.of("bad"))
    inside = np.sort(defects[: round(count * SPOILT_SHARE / (1 - SPOILT_SHARE))])
    bad, good = np.sort(defects[len(inside) :]), category.of("good")
    results: Scores = {}
    spoilt = np.concatenate([clean, inside])
    for name, learned in (("clean", clean), ("spoilt", spoilt)):
        scores, dropped = _measure(category, learned, good, bad, seed)
        results |= {f"{name}_{key}": value for key, value in scores.items()}
        results[f"{name}_dropped"] = np.isin(learned[dropped], inside)
    mended = np.delete(spoilt, dropped)
    scores, _ = _measure(category, mended, good, bad, seed)
    results |= {f"mended_{key}": value for key, value in scores.items()}
    np.savez(target, **results, inside=len(inside))
    print(target.name, flush=True)


def _measure(
    category: Category,
    learned: NDArray[np.int64],
    good: NDArray[np.int64],
    bad: NDArray[np.int64],
    seed: int,
) -> tuple[Scores, NDArray[np.int64]]:
    """Return held-out, good and bad scores (column 0: image, 1: map), and `auto`'s drops."""
    training = _learn(category.take(learned), replace(CONFIG, seed=seed))
    with tempfile.TemporaryDirectory() as scratch:
        held_out = score_held_out(training, folder=Path(scratch))
        bank = bank_of(training, choose_rows(training, name="bank"))
        scorer = open_scorer(training, bank, Path(scratch))
        left_out = leave_one_out(training, bank, scorer).scores
        scores = {}
        for name, images in (("good", good), ("bad", bad)):
            rows = []
            for image in images:
                result = scorer.score(*category.store.as_network_output(int(image)))
                rows.append((result.score, result.anomaly_map.max()))
            scores[name] = np.array(rows)
    scores["full"] = np.stack([held_out.image_scores, held_out.map_maxima], axis=1)
    scores["lean"] = np.stack([held_out.lean_image_scores, held_out.lean_map_maxima], axis=1)
    scores["shares"] = np.array([held_out.share, held_out.lean_share])
    suspects = choose_suspects(left_out, [""] * len(learned), "auto")
    return scores, np.array([suspect.image for suspect in suspects], np.int64)


def _learn(store: FeatureStore, config: Config) -> TrainingFeatures:
    rows = store.images * store.patches_per_image
    channels = store.layers[0].shape[3] + store.layers[1].shape[3]
    matrix = random_projection(channels, projection_size(rows), seed=config.seed)
    projected = np.empty((rows, matrix.shape[1]), np.float32)
    store.project(matrix, projected)
    return TrainingFeatures(
        store=store,
        cloud=PatchCloud.of(projected),
        groups=every_image_alone(store.images),
        size=plan_preprocessing(config, [(1, 1)]),
        config=config,
    )


if __name__ == "__main__":
    main()
