r"""Which defaults does the evidence support? -> AUROC over recipes, borders, scores, seeds.

    python -m benchmarks.studies.defaults --dataset DIR --category NAME --backbone resnet18 \
        --weights FILE

For each recipe and each rule for the border of the 3x3 average: one bank per seed, and from the
same patch distances both image scores, eq. 7 and the plain maximum.
"""

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_build.backbone.device import open_device
from patchcore_build.backbone.network import mindspore_network
from patchcore_build.backbone.parameters import make_network
from patchcore_build.config import (
    RECIPES,
    Config,
    make_config,
    plan_layout,
    scoring_rule,
)
from patchcore_build.coreset.select import (
    coreset_size,
    projection_size,
    random_projection,
    select_coreset,
)
from patchcore_build.data.dataset import TestImage, open_dataset, read_mask
from patchcore_build.data.training_inputs import Inputs, load_inputs
from patchcore_build.errors import DatasetError
from patchcore_build.evaluation.metrics import auroc
from patchcore_build.features.store import FeatureStore, extract_features, make_bank
from patchcore_build.storage import Storage
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.image.placement import Placement
from patchcore_runtime.image.preprocess import preprocess
from patchcore_runtime.scoring.patch_scorer import PatchScorer
from patchcore_runtime.search.exact import ExactIndex
from patchcore_runtime.search.exact_graph import write_bank

SCORES = ("max", "paper")


def main() -> None:
    """Measure one category and print a row per recipe, border and score."""
    arguments = _arguments()
    open_device()
    rows = []
    for recipe in arguments.recipes.split(","):
        for border in ("counted", "not_counted"):
            config = make_config(recipe, backbone=arguments.backbone, pooling_border=border)
            seeds = range(arguments.seeds)
            rows += list(_measure(arguments, config, seeds))
            if not arguments.json:
                _print(rows[-len(SCORES) :])
    if arguments.json:
        print(json.dumps(rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--category", required=True)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", help="file; scattering needs none")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _measure(
    arguments: argparse.Namespace, config: Config, seeds: Sequence[int]
) -> Iterator[dict[str, object]]:
    dataset = open_dataset(arguments.dataset)
    folder = dataset.training_images(arguments.category)
    with tempfile.TemporaryDirectory() as scratch:
        storage = Storage(Path(scratch), budget_bytes=2**34)
        inputs = load_inputs(folder, config, storage)
        make_cell, _ = make_network(config, arguments.weights, inputs)
        network = mindspore_network(make_cell())
        store = extract_features(
            network, inputs.pixels, upsampling=config.upsampling, storage=storage
        )
        tests = dataset.test_images(arguments.category)
        shots = [preprocess(image.path, inputs.preprocessing) for image in tests]
        test_store = extract_features(
            network,
            np.stack([pixels for pixels, _ in shots]),
            upsampling=config.upsampling,
            storage=storage,
        )
        masks = _masks(tests, [place for _, place in shots], inputs)
        results: dict[str, list[float]] = {name: [] for name in (*SCORES, "pixel")}
        for seed in seeds:
            bank = _bank(store, config, seed)
            for name, value in _aurocs(
                bank, test_store, tests, masks, (config, inputs, Path(scratch))
            ).items():
                results[name].append(value)
    for score in SCORES:
        yield {
            "category": arguments.category,
            "recipe": config.recipe,
            "border": config.pooling_border,
            "score": score,
            "image_auroc": results[score],
            "pixel_auroc": results["pixel"],
        }


def _masks(
    tests: list[TestImage], places: list[Placement], inputs: Inputs
) -> list[NDArray[np.bool_] | None]:
    size = (inputs.preprocessing.height, inputs.preprocessing.width)
    masks: list[NDArray[np.bool_] | None] = []
    for image, place in zip(tests, places, strict=True):
        try:
            masks.append(read_mask(image, place, size))
        except DatasetError:
            masks.append(None)
    return masks


def _bank(store: FeatureStore, config: Config, seed: int) -> MemoryBank:
    count = store.images * store.patches_per_image
    channels = store.layers[0].shape[3] + store.layers[1].shape[3]
    matrix = random_projection(channels, projection_size(count), seed=seed)
    projected = np.empty((count, matrix.shape[1]), np.float32)
    store.project(matrix, projected)
    rows = select_coreset(projected, coreset_size(count, config.coreset_ratio), seed=seed)
    return make_bank(store, rows, config.neighbours)


def _aurocs(
    bank: MemoryBank,
    test_store: FeatureStore,
    tests: list[TestImage],
    masks: list[NDArray[np.bool_] | None],
    made: tuple[Config, Inputs, Path],
) -> dict[str, float]:
    config, inputs, folder = made
    layout = plan_layout(config, inputs.preprocessing, bank.channels)
    index = ExactIndex(write_bank(folder, bank, layout), bank, layout)
    rule = scoring_rule(config, inputs.preprocessing)
    anomalous = np.array([image.is_anomalous for image in tests])
    results = {}
    for score in SCORES:
        unit = "squared" if score == "modelzoo" else "euclidean"
        of_score = dataclasses.replace(rule, image_score=score, distance=unit)
        scorer = PatchScorer(bank, index, layout, of_score)
        scored = [scorer.score(test_store.as_network_output(i)) for i in range(len(tests))]
        values = np.array([result.score for result in scored])
        results[score] = auroc(values[~anomalous], values[anomalous])
    pairs = [
        (result.anomaly_map, mask)
        for result, mask in zip(scored, masks, strict=True)
        if mask is not None
    ]
    maps = np.stack([anomaly_map for anomaly_map, _ in pairs])
    truth = np.stack([mask for _, mask in pairs])
    results["pixel"] = auroc(maps[~truth], maps[truth])
    return results


def _print(rows: list[dict[str, object]]) -> None:
    for row in rows:
        image, pixel = np.array(row["image_auroc"]), np.array(row["pixel_auroc"])
        print(
            f"| {row['category']} | {row['recipe']} | {row['border']} | {row['score']} "
            f"| {image.mean():.4f} ± {image.std():.4f} | {pixel.mean():.4f} ± {pixel.std():.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
