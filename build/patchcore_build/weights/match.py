"""Check that trained weights fit a network, and write them as a MindSpore checkpoint.

{parameter name: array} + expected shapes -> the arrays of the backbone -> FILE.ckpt

Source of the names: torchvision.models.resnet; for transformers see `weights.vit`. MindSpore is
imported only when a checkpoint is written.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_build.errors import OutputError, WeightsError
from patchcore_build.vision_transformers import VITS, official_shapes
from patchcore_build.weights.read import Weights, one_line, read_weights
from patchcore_build.weights.vit import name_transformer, official_weights
from patchcore_runtime.files.whole import check_writable, written_whole

# A torchvision classifier has more layers than PatchCore uses.
_STAGES = ("layer2.", "layer3.", "layer4.")
_HEAD = "fc."
# Number of blocks in layer3, bottleneck or not, (out, in) of layer1.0.conv2 -> torchvision's name.
_BACKBONES: dict[tuple[int | bool, ...], str] = {
    (2, False, 64, 64): "resnet18",
    (6, False, 64, 64): "resnet34",
    (6, True, 64, 64): "resnet50",
    (23, True, 64, 64): "resnet101",
    (6, True, 128, 128): "wide_resnet50_2",
    (23, True, 128, 128): "wide_resnet101_2",
}

_RESNETS = tuple(_BACKBONES.values())


def match_weights(
    weights: Weights, expected: Mapping[str, tuple[int, ...]], *, source: str
) -> Weights:
    """Select exactly the tensors that a backbone needs.

    A transformer's parameters may have the names of other projects (`weights.vit`), and positions
    on any square grid. Stages of a torchvision classifier behind the deepest one of `expected`, and
    `fc.*`, are dropped silently.

    Args:
        weights: Arrays by MindSpore parameter name.
        expected: Shape of every parameter of the backbone, by the same names.
        source: File of the weights, for the error message.

    Returns:
        The arrays of `weights` in the order of `expected`.

    Raises:
        WeightsError: A tensor is missing, surplus, of another shape or not finite, or a variance
            is negative; the message lists them.
    """
    transformer = "patch_embed.proj.weight" in expected
    if transformer:
        weights, expected = official_weights(weights, expected)
    unused = [stage for stage in _STAGES if not any(name.startswith(stage) for name in expected)]
    surplus = (*unused, _HEAD)
    kept = {
        name: array
        for name, array in weights.items()
        if name in expected or not name.startswith(surplus)
    }
    misshapen = [
        f"{name} (expected {_sides(shape)}, got {_sides(kept[name].shape)})"
        for name, shape in expected.items()
        if name in kept and kept[name].shape != tuple(shape)
    ]
    problems = [
        *_list("missing", [name for name in expected if name not in kept]),
        *_list("surplus", [name for name in kept if name not in expected]),
        *_list("of another shape", misshapen),
    ]
    if problems:
        shapes = {name: array.shape for name, array in weights.items()}
        found, wanted = (_known_name(sides, transformer) for sides in (shapes, expected))
        raise WeightsError(
            f"{source}: does not fit the backbone: {'; '.join(problems)}; "
            + _advice(found, wanted, transformer)
        )
    broken = [name for name in expected if not _is_usable(name, kept[name])]
    if broken:
        raise WeightsError(
            f"{source}: {_list('with NaN, infinite or negative variance values', broken)[0]};"
            " expected finite numbers; the file is damaged or its training diverged, get another"
        )
    return {name: kept[name] for name in expected}


def convert_weights(
    source: Path,
    target: Path,
    expected: Mapping[str, tuple[int, ...]],
    *,
    overwrite: bool = False,
) -> None:
    """Write the weights in `source` as a MindSpore checkpoint with exactly the parameters expected.

    The checkpoint appears whole or not at all, and the same weights give the same bytes.

    Args:
        source: Any file `read_weights` reads.
        target: The checkpoint to write, `*.ckpt`; missing folders are created.
        expected: Shape of every parameter of the backbone, by MindSpore name.
        overwrite: Replace an existing `target`.

    Raises:
        WeightsError: `source` cannot be read or does not fit.
        OutputError: `target` exists, is not a `.ckpt`, or cannot be written.
    """
    check_target(target, overwrite=overwrite)
    weights = match_weights(read_weights(source), expected, source=str(source))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target) as unfinished:
            _save_checkpoint(weights, unfinished)
    except (OSError, RuntimeError, ValueError) as error:
        raise OutputError(
            f"{target}: cannot be written ({one_line(error)}); free the disk or choose another"
            " folder"
        ) from error


def check_target(target: Path, *, overwrite: bool = False) -> None:
    """Check before long work that a checkpoint can be written.

    Raises:
        OutputError: `target` exists, is not a `.ckpt`, or its folder cannot be written.
    """
    if target.suffix != ".ckpt":
        raise OutputError(f"{target}: expected a name that ends in .ckpt; rename the output")
    if os.path.lexists(target) and not (overwrite and target.is_file()):
        raise OutputError(f"{target}: exists already; choose another name, or remove it first")
    check_writable(target.parent)


def name_backbone(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Recognise a torchvision ResNet by its tensors.

    Args:
        shapes: Shapes by parameter name, with torchvision's module names.

    Returns:
        torchvision's name, such as "wide_resnet50_2", or None for any other network.
    """
    blocks = sum(f"layer3.{number}.conv1.weight" in shapes for number in range(64))
    width = shapes.get("layer1.0.conv2.weight", (0, 0))[:2]
    return _BACKBONES.get((blocks, "layer1.0.conv3.weight" in shapes, *width))


def _save_checkpoint(weights: Weights, path: Path) -> None:
    import mindspore  # imported here because it takes three seconds

    entries = [{"name": name, "data": mindspore.Tensor(array)} for name, array in weights.items()]
    named = path.with_name(f"{path.name}.ckpt")  # MindSpore adds this suffix to any other name
    try:
        mindspore.save_checkpoint(entries, str(named))
        named.chmod(0o644)  # MindSpore leaves it read-only, and unreadable for others
        named.replace(path)
    finally:
        named.unlink(missing_ok=True)


def _is_usable(name: str, array: NDArray[np.float32]) -> bool:
    if not np.isfinite(array).all():
        return False
    return not (name.endswith(".moving_variance") and bool((array < 0).any()))


def _list(what: str, items: list[str]) -> list[str]:
    """The number of `items` and the first three of them; an empty list if there are none."""
    printable = [item if item.isprintable() else ascii(item) for item in items[:3]]
    shown = ", ".join(item[:200] for item in printable) + (", ..." if len(items) > 3 else "")
    return [f"{len(items)} {what}: {shown}"] if items else []


def _sides(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _known_name(shapes: Mapping[str, tuple[int, ...]], transformer: bool) -> str | None:
    if not transformer:
        return name_backbone(shapes)
    return name_transformer(shapes, {name: official_shapes(VITS[name]) for name in VITS})


def _advice(found: str | None, wanted: str | None, transformer: bool) -> str:
    project, known = ("the official file", VITS) if transformer else ("torchvision's", _RESNETS)
    if found == wanted:
        return f"save the plain state dict of {project if transformer else 'the torchvision model'}"
    backbone = f" for {wanted}" if wanted else ""
    if found is None:
        return f"the file is none of {', '.join(known)}; get {project}{backbone}"
    return f"the file looks like {found}: choose that backbone or get the file{backbone}"
