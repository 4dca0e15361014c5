"""Valid files in the wrong artifact: a mixed-up copy, or malice with new checksums.

two artifacts -> damages of the first. With the old sums the file is refused at once. With new sums
it is refused if shapes differ; otherwise only the self-test detects it, and must name the stage.
"""

from pathlib import Path

from PIL import Image, ImageOps

from artifact_factory import make_artifact, tiny_config, write_network
from hostile import Damage
from patchcore_runtime.artifact.folder import (
    FEATURES_ONNX,
    INDEX_ONNX,
    MEMORY_BANK,
    RUNTIME_FILES,
    SELFTEST_FILES,
)

OLD = "of another artifact, old sums"
OTHER = "of another geometry, new sums"
TWIN = "of a twin, new sums"


def make_others(folder: Path, photos: Path) -> tuple[Path, Path]:
    """Make an artifact of another geometry, and one with only another seed and other images."""
    other = make_artifact(folder / "other", photos, tiny_config("paper"))
    mirrored = folder / "mirrored"
    mirrored.mkdir()
    for path in sorted(photos.iterdir()):
        with Image.open(path) as photo:
            ImageOps.mirror(photo).save(mirrored / path.name)
    twin = make_artifact(folder / "twin", mirrored, tiny_config(seed=5))
    write_network(twin / FEATURES_ONNX, height=64, width=96, seed=7)
    return other, twin


def swap_damages(other: Path, twin: Path) -> list[Damage]:
    """Return each file of both in the artifact's place, with the old sums and with new ones."""
    stages = {FEATURES_ONNX: "features", MEMORY_BANK: "map"}
    stages |= {"selftest.png": "input", "selftest_input.png": "input", "selftest_map.npy": "map"}
    # The first file that does not match if it comes from another geometry.
    misfits = {name: name for name in (FEATURES_ONNX, MEMORY_BANK, INDEX_ONNX)}
    misfits["manifest.json"] = MEMORY_BANK
    return [
        *(_swapped(name, other, OLD, (name,), sums=False) for name in RUNTIME_FILES),
        *(_swapped(name, other, OTHER, (named,)) for name, named in misfits.items()),
        *(
            _swapped(name, twin, TWIN, (f"breaks at `{stage}`",), by_check=True)
            for name, stage in stages.items()
        ),
        *(_swapped(name, twin, OLD, (name,), sums=False, by_check=True) for name in SELFTEST_FILES),
    ]


def _swapped(name, source, words, named, *, sums=True, by_check=False):
    content = (source / name).read_bytes()
    return Damage(
        name=f"{name} {words}",
        do=lambda folder: (folder / name).write_bytes(content),
        named=named,
        sums=sums,
        by_check=by_check,
    )
