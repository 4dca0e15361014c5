"""Photograph -> score, verdict and anomaly map, with all settings of an artifact.

preprocess -> features.onnx -> search -> image score and map. PatchCore, Roth et al. 2021.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_runtime.artifact.folder import (
    FEATURES_ONNX,
    Artifact,
)
from patchcore_runtime.engine.providers import full_names
from patchcore_runtime.engine.session import CPU, open_network, thread_count
from patchcore_runtime.errors import ImageError
from patchcore_runtime.explain.heatmap import HeatmapScale
from patchcore_runtime.image.decode import ChannelOrder, ImageSource
from patchcore_runtime.image.placement import Placement
from patchcore_runtime.image.preprocess import preprocess
from patchcore_runtime.image.region import Region, narrower, read_region
from patchcore_runtime.image.statistics import measure_image, unusual_light
from patchcore_runtime.manifest.manifest import Manifest
from patchcore_runtime.result import Result
from patchcore_runtime.scoring.gate import strangeness
from patchcore_runtime.scoring.patch_scorer import PatchScorer, PatchScores
from patchcore_runtime.scoring.thresholds import p_value, with_thresholds
from patchcore_runtime.search.exact import Layers
from patchcore_runtime.search.open import Search, open_index, require_search

if TYPE_CHECKING:
    from patchcore_runtime.explain.evidence import PatchEvidence


class Detector:
    """A loaded artifact that scores images; safe to share between threads."""

    def __init__(
        self,
        artifact: Artifact,
        *,
        threads: int | None = None,
        providers: Sequence[str] = (CPU,),
        search: Search = "auto",
        roi: str | Path | None = None,
    ) -> None:
        self.artifact = artifact
        self._loaded: tuple[Path, dict[str, Any]] | None = None
        providers = full_names(providers)
        bank = artifact.memory_bank  # validated before the large files are opened
        self.region = _open_region(artifact, roi)
        self.grid = artifact.manifest.grid
        self._layout = artifact.manifest.layout
        self._features = open_network(
            artifact.path(FEATURES_ONNX),
            shapes={"images": (*self.grid.tile_px, 3), **self._layout.shapes},
            threads=threads,
            providers=providers,
        )
        self._scorer = PatchScorer(
            bank,
            open_index(artifact, search, threads=threads, providers=providers),
            self._layout,
            artifact.manifest.scoring,
            grid=self.grid,
            region=self.region,
            learned=artifact.region,
        )

    @classmethod
    def load(  # noqa: PLR0913 - independent keywords
        cls,
        folder: str | Path,
        *,
        threads: int | None = None,
        providers: Sequence[str] = (CPU,),
        verify: bool = True,
        search: Search = "auto",
        roi: str | Path | None = None,
        threshold: float | None = None,
        target_fpr: float | None = None,
        public_key: str | Path | None = None,
        private: bool = False,
    ) -> "Detector":
        """Load an artifact folder.

        Args:
            folder: The artifact.
            threads: Threads of one operator; `None` uses all available cores.
            providers: onnxruntime execution providers in order of preference, by onnxruntime's
                name or as `cpu`, `cuda`, `tensorrt`, `openvino`, `coreml`.
            verify: Verify the files against SHA256SUMS first.
            search: `auto` uses the kind of index that the manifest names; `exact` uses
                index.onnx, which every artifact has; `pca` finds the same rows along the bank's
                principal axes, faster in a large bank but after a longer load.
            roi: Mask image (white = inspect, black = ignore), inside the artifact's own region;
                thresholds are unchanged.
            threshold: Image threshold that replaces the artifact's, above 0.
            target_fpr: Alternatively, a false-alarm rate that replaces the artifact's; both
                thresholds are recomputed from the stored held-out scores.
            public_key: PEM file of the ed25519 key that must have signed the checksums; requires
                `verify` and `patchcore-runtime[sign]`.
            private: Copy the artifact into a temporary folder of this user first, and verify and
                load the copy. Then nobody who can write to `folder` changes scores afterwards.

        Raises:
            ArtifactError: a file is missing, altered, or of an unknown version; the subclass
                SignatureError if the key has not signed it.
            ProviderError: a provider or an optional library is not available.
            ImageError: `roi` is not a mask that matches the artifact.
            ThresholdError: both threshold and rate are given, or one is out of range.
            SettingError: `threads`, `providers` or `search` has no such value.
        """
        thread_count(threads)
        require_search(search)
        artifact = Artifact.open(folder, verify=verify, public_key=public_key, private=private)
        manifest = artifact.manifest
        calibration = with_thresholds(
            manifest.calibration, threshold=threshold, target_fpr=target_fpr
        )
        asked = dataclasses.replace(manifest, calibration=calibration)
        artifact = dataclasses.replace(artifact, manifest=asked)
        options: dict[str, Any] = {
            "threads": threads,
            "providers": full_names(providers),
            "search": search,
            "roi": roi,
        }
        detector = cls(artifact, **options)
        options |= {"verify": verify, "threshold": threshold, "target_fpr": target_fpr}
        options |= {"public_key": public_key, "private": private}
        detector._loaded = (Path(folder).absolute(), options)
        return detector

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the folder and the options of `load`: the other process loads it again."""
        if self._loaded is None:
            raise TypeError("Detector: expected one made by Detector.load, which knows its folder")
        return _load_again, self._loaded

    def explain(self, result: Result, *, top: int = 5) -> "tuple[PatchEvidence, ...]":
        """Explain a score: find the strangest patches and their nearest normal patches.

        This is a method of the detector and not of the result, because names, positions and
        thumbnails of the training images belong to the artifact.

        Args:
            result: A result of this detector.
            top: Number of patches, at least 1.

        Raises:
            ArtifactError: the bank refers to training images that the manifest does not list.
        """
        from patchcore_runtime.explain.evidence import explain_patches

        return explain_patches(
            self.artifact,
            result.patch_distances,
            result.nearest_rows,
            result.placement,
            counts=None if self.region is None else self.region.patches,
            threshold=self.manifest.scoring.euclidean(result.pixel_threshold),
            top=top,
        )

    @property
    def manifest(self) -> Manifest:
        """Return the artifact's manifest, with the thresholds given at load."""
        return self.artifact.manifest

    @property
    def heatmap_scale(self) -> HeatmapScale:
        """Return the artifact's one colour scale, on which good parts do not appear hot."""
        calibration = self.manifest.calibration
        return HeatmapScale(
            low=calibration.heatmap.low,
            threshold=calibration.pixel_threshold,
            high=calibration.heatmap.high,
        )

    def predict(
        self,
        image: ImageSource,
        *,
        channel_order: ChannelOrder = "rgb",
        measure: bool = False,
    ) -> Result:
        """Score one image.

        Args:
            image: Path, the bytes of a file, a file opened for reading bytes, a PIL image, or an
                array: uint8 (H', W', 3), and grey as uint8 or uint16, (H', W') or (H', W', 1).
            channel_order: Order of an array's three channels; OpenCV's is `bgr`.
            measure: Also measure the image as a whole, for a `Monitor`; takes about 1 ms.

        Raises:
            ImageError: the image cannot be read or has a refused size.
        """
        settings = self.manifest.preprocess
        pixels, placement = preprocess(image, settings, channel_order=channel_order)
        return self.predict_input(pixels, placement, measure=measure)

    def predict_batch(
        self, images: Iterable[ImageSource], *, channel_order: ChannelOrder = "rgb"
    ) -> list[Result]:
        """Score images in order, each exactly as `predict` does.

        Images pass the network one at a time. A batch is not faster on a CPU, and this way no
        floating-point sum depends on the other images.

        Raises:
            ImageError: an image cannot be read, or `images` is one image and not several.
        """
        one = isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | Image.Image)
        if one or (isinstance(images, np.ndarray) and images.ndim < 4):
            raise ImageError(
                f"images: expected several images, got one {type(images).__name__}; call predict"
            )
        return [self.predict(image, channel_order=channel_order) for image in images]

    def features(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """Compute each layer (T, C, h/s, w/s) of an input's tiles.

        Args:
            pixels: uint8 (H, W, 3); T is 1 if the input is not cut.
        """
        layers = zip(*self._tile_features(pixels), strict=True)
        return tuple(np.concatenate(layer) for layer in layers)

    def _tile_features(self, pixels: NDArray[np.uint8]) -> Iterator[Layers]:
        for tile in self.grid.cut(pixels):
            yield self._features.run(self._layout.names, {"images": tile[None]})

    def predict_input(
        self, pixels: NDArray[np.uint8], placement: Placement, *, measure: bool = False
    ) -> Result:
        """Score a preprocessed input, uint8 (H, W, 3); the part of `predict` after resizing.

        Tiles are processed one by one, so apart from the maps only one tile is in memory. With
        `measure` the layers of all tiles are kept.
        """
        if measure:
            layers = self.features(pixels)
            result = self.score_features(layers, placement)
            result = dataclasses.replace(result, measured=measure_image(pixels, layers))
        else:
            scores = self._scorer.score_tiles(self._tile_features(pixels))
            result = self._result(scores, placement)
        return self._looked_at(result, pixels)

    def score_features(self, layers: Layers, placement: Placement) -> Result:
        """Score one image's `features`; the part of `predict` after the network."""
        return self._result(self._scorer.score(layers), placement)

    def tile_distances(self, layers: Layers) -> NDArray[np.float32]:
        """Compute the distance of every patch in one image's `features` to the bank, (T, h, w).

        It is 0 outside the region. Overlapping tiles have their own views of a patch.
        """
        return self._scorer.tile_distances(layers)

    def _result(self, scores: PatchScores, placement: Placement) -> Result:
        calibration = self.manifest.calibration
        return Result(
            score=scores.score,
            p_value=p_value(calibration, calibration.image_scores, scores.score),
            threshold=calibration.image_threshold,
            pixel_threshold=calibration.pixel_threshold,
            anomaly_map=scores.anomaly_map,
            patch_distances=scores.distances,
            nearest_rows=scores.rows,
            placement=placement,
            heatmap_scale=self.heatmap_scale,
            strangeness=strangeness(calibration.gate, scores.gate),
        )

    def _looked_at(self, result: Result, pixels: NDArray[np.uint8]) -> Result:
        """Add what the input as a whole says to the reasons, if it does not show the part."""
        if not result.strangeness:
            return result
        more = unusual_light(pixels, self.manifest.monitoring)
        return dataclasses.replace(result, strangeness=(*result.strangeness, *more))


def _load_again(folder: Path, options: dict[str, Any]) -> Detector:
    return Detector.load(folder, **options)


def _open_region(artifact: Artifact, roi: str | Path | None) -> Region | None:
    learned = artifact.region
    if roi is None:
        return learned
    manifest = artifact.manifest
    side = manifest.features.patch_px
    asked = read_region(roi, manifest.preprocess, manifest.region, patch_px=side)
    return narrower(roi, asked, learned)
