"""What `score` and `monitor` write for an image beside its JSON line: maps, masks, sheets, regions.

options + scored image -> files, whole or not at all, and the entries that name them in the line.
"""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from patchcore_runtime.detector import Detector
from patchcore_runtime.errors import OutputError
from patchcore_runtime.explain.heatmap import save_heatmap, save_png
from patchcore_runtime.files.names import shown, shown_path, with_suffix
from patchcore_runtime.files.whole import check_writable, written_whole
from patchcore_runtime.result import Result

MapFormat = Literal["heatmap", "npy", "png16"]
Source = tuple[Path, str]  # an image, and its name below the folders of outputs

_SUFFIXES: dict[MapFormat, str] = {
    "heatmap": ".heatmap.png",
    "npy": ".map.npy",
    "png16": ".map.png",
}
MASK_SUFFIX, SHEET_SUFFIX = ".mask.png", ".explain.png"
# In a 16-bit map this multiple of the colour scale's end is white.
_HEADROOM = 4


def add_output_options(command: argparse.ArgumentParser) -> None:
    """Declare the options for files and regions."""
    command.add_argument("--maps", metavar="DIR", type=Path, help="write a map per image")
    command.add_argument(
        "--map-format", choices=get_args(MapFormat),
        help="heatmap (default): photograph, heat map and scale side by side; npy: the map of the "
        "network's input, float32 (H, W); png16: the same in 16 bits",
    )  # fmt: skip
    command.add_argument(
        "--masks", metavar="DIR", type=Path,
        help="write a mask per image, white where the map is above the pixel threshold",
    )  # fmt: skip
    command.add_argument(
        "--csv", metavar="FILE", type=Path, help="also write the scores as a CSV table"
    )
    command.add_argument(
        "--explain",
        metavar="DIR",
        type=Path,
        help="write a sheet per image: its strangest patches beside their nearest normal patches "
        "(shows training images if the artifact was made with --keep-thumbnails)",
    )
    command.add_argument(
        "--regions",
        action="store_true",
        help="add the areas above the pixel threshold to the JSON line: box, area, peak, contour",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outputs:
    """What is written for each image; None leaves it out."""

    maps: Path | None
    map_format: MapFormat
    masks: Path | None
    explain: Path | None
    regions: bool

    @classmethod
    def of(cls, arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> "Outputs":
        """Take the options of `add_output_options`."""
        if arguments.map_format is not None and arguments.maps is None:
            parser.error("--map-format: expected --maps DIR, which it belongs to")
        return cls(
            maps=arguments.maps,
            map_format=arguments.map_format or "heatmap",
            masks=arguments.masks,
            explain=arguments.explain,
            regions=arguments.regions,
        )

    @property
    def drawn(self) -> bool:
        """Return whether an output has the size of the photograph."""
        heatmaps = self.maps is not None and self.map_format == "heatmap"
        return heatmaps or self.masks is not None or self.explain is not None or self.regions

    def prepare(self, sources: Sequence[Source]) -> None:
        """Check, before any image is scored, that every file can be written.

        Raises:
            OutputError: two images would get the same file, or a folder cannot be written.
        """
        for folder, suffix in self._folders():
            _refuse_shared(sources, folder, suffix)
            check_writable(folder)

    def write(
        self, detector: Detector, image: Image.Image, result: Result, name: str
    ) -> dict[str, Any]:
        """Write an image's files; return the entries of its JSON line.

        Raises:
            OSError: a file cannot be written; an older one is unchanged.
        """
        row: dict[str, Any] = {}
        if self.maps is not None:
            target = _target(self.maps, name, _SUFFIXES[self.map_format])
            _MAP_WRITERS[self.map_format](target, detector, image, result)
            row["map"] = shown_path(target)
        if self.masks is not None:
            target = _target(self.masks, name, MASK_SUFFIX)
            save_png(target, result.mask)
            row["mask"] = shown_path(target)
        if self.regions:
            row["regions"] = [dataclasses.asdict(region) for region in result.regions()]
        if self.explain is not None:
            target = _target(self.explain, name, SHEET_SUFFIX)
            row["sheet"] = shown_path(target)
            row["patches"] = _explain(target, detector, image, result, name)
        return row

    def _folders(self) -> list[tuple[Path, str]]:
        folders = [
            (self.maps, _SUFFIXES[self.map_format]),
            (self.masks, MASK_SUFFIX),
            (self.explain, SHEET_SUFFIX),
        ]
        return [(folder, suffix) for folder, suffix in folders if folder is not None]


def _target(folder: Path, name: str, suffix: str) -> Path:
    target = folder / with_suffix(name, suffix)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _write_heatmap(target: Path, detector: Detector, image: Image.Image, result: Result) -> None:
    verdict = result.verdict.replace("_", " ")
    title = f"{verdict}: score {result.score:.3g}, threshold {result.threshold:.3g}"
    photograph = np.asarray(image)
    save_heatmap(target, photograph, result.map_on(image), detector.heatmap_scale, title=title)


def _write_npy(target: Path, _detector: Detector, _image: Image.Image, result: Result) -> None:
    with written_whole(target) as unfinished, unfinished.open("wb") as file:
        np.save(file, result.anomaly_map)


def _write_png16(target: Path, detector: Detector, _image: Image.Image, result: Result) -> None:
    top = _HEADROOM * np.float32(detector.heatmap_scale.high)
    grey = np.rint(np.clip(result.anomaly_map / top, 0, 1) * np.float32(65535))
    save_png(target, grey.astype(np.uint16))


_MAP_WRITERS: dict[MapFormat, Callable[[Path, Detector, Image.Image, Result], None]] = {
    "heatmap": _write_heatmap,
    "npy": _write_npy,
    "png16": _write_png16,
}


def _explain(
    target: Path, detector: Detector, image: Image.Image, result: Result, name: str
) -> list[dict[str, Any]]:
    from patchcore_runtime.explain.sheet import explain_sheet

    evidence = detector.explain(result)
    sheet = explain_sheet(
        detector.artifact, image, result, evidence, scale=detector.heatmap_scale, name=shown(name)
    )
    save_png(target, sheet)
    return [dataclasses.asdict(one) for one in evidence]


def _refuse_shared(sources: Sequence[Source], folder: Path, suffix: str) -> None:
    seen: set[str] = set()
    for _, name in sources:
        if name in seen:
            target = shown_path(folder / with_suffix(name, suffix))
            raise OutputError(
                f"{target}: two images would get this file; "
                "score their common folder, or one after the other with two folders"
            )
        seen.add(name)
