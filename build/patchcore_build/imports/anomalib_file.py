"""Read a model of anomalib 2 without running its code: a Lightning .ckpt, or a Torch export .pt.

FILE -> tensors by the names of the state dict, and the settings beside them as plain values.

A .ckpt holds a state dict and `hyper_parameters`; up to anomalib 2.6 these hold pickled objects,
from 2.7 on plain configurations beside them. A .pt is one pickled module, whose submodules hold the
same tensors and settings. Objects are read as records of a name and a state, see `torch_pickle`;
neither anomalib nor torch is imported.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_build.errors import ModelError
from patchcore_build.imports.transforms import Step
from patchcore_build.weights.torch_checkpoint import TorchFile, read_torch_file, refused
from patchcore_build.weights.torch_pickle import Record, quote

PACKAGES = ("anomalib", "lightning", "pathlib", "timm", "torchmetrics", "torchvision")
_MOST_PARTS = 100_000  # modules and tensors; of a ResNet-101 they are about a thousand
_DEEPEST = 40  # modules inside of each other
# How the tensors of a model begin that only it has.
_OTHERS = {
    "model.gaussian.": "PaDiM",
    "model.teacher.": "EfficientAD",
    "model.teacher_model.": "STFPM",
    "model.fast_flow": "FastFlow",
    "model.pca_model.": "DFM",
    "model.feature_encoder.": "AnomalyDINO",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class AnomalibFile:
    """Content of a file.

    Attributes:
        tensors: Arrays by the names of the state dict, such as `model.memory_bank`.
        settings: `backbone`, `layers`, `num_neighbors` and others that the file states.
        steps: Transforms of the pre-processor; None if it has none or does not state them.
        post: Settings of the post-processor; None if it has none.
    """

    tensors: Mapping[str, NDArray[Any]]
    settings: Mapping[str, Any]
    steps: list[Step] | None
    post: Mapping[str, Any] | None


def read_anomalib(path: Path) -> AnomalibFile:
    """Read a .ckpt or .pt of anomalib's PatchCore.

    Raises:
        ModelError: the file is missing, corrupt, hostile, or of another model.
    """
    expected = "a .ckpt or .pt of anomalib's PatchCore"
    advice = "pass the file that anomalib 2 wrote for a PatchCore"
    with refused(path, expected, advice, error_type=ModelError):
        file = read_torch_file(path, PACKAGES)
        value = file.value
        if not isinstance(value, dict):
            raise ValueError(f"it holds {quote(value)}")
        if isinstance(value.get("model"), Record):
            return _read_module(file, value["model"])
        if isinstance(value.get("state_dict"), dict):
            return _read_checkpoint(file, value)
        raise ValueError("it holds neither a `state_dict` of Lightning nor a `model` of an export")


def _read_checkpoint(file: TorchFile, value: Mapping[str, Any]) -> AnomalibFile:
    tensors = file.tensors(lambda _: value["state_dict"])
    _refuse_other_model(tensors)
    settings = _items(value.get("hyper_parameters"))
    if "num_neighbors" not in settings:
        raise ValueError("its hyper_parameters have no num_neighbors")
    enabled = _items(value.get("anomalib_components_enabled"))
    return AnomalibFile(
        tensors=tensors,
        settings=settings,
        steps=_steps_of_checkpoint(value, settings, enabled),
        post=_post_of_checkpoint(value, settings, enabled),
    )


def _steps_of_checkpoint(
    value: Mapping[str, Any], settings: Mapping[str, Any], enabled: Mapping[str, Any]
) -> list[Step] | None:
    if "anomalib_pre_processor_config" in value:  # anomalib 2.7
        config = _items(value["anomalib_pre_processor_config"])
        return _steps(config.get("transform"))
    chosen = settings.get("pre_processor", enabled.get("pre_processor"))
    if isinstance(chosen, Record):
        return _steps(_transform_of(chosen))
    if chosen is True:  # anomalib 2.0 to 2.6 state no more than that it is PatchCore's own
        return [
            ("Resize", {"size": (256, 256), "antialias": True}),
            ("Normalize", {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}),
        ]
    return None


def _post_of_checkpoint(
    value: Mapping[str, Any], settings: Mapping[str, Any], enabled: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    if "anomalib_post_processor_config" in value:  # anomalib 2.7
        return _items(value["anomalib_post_processor_config"])
    chosen = settings.get("post_processor", enabled.get("post_processor"))
    if isinstance(chosen, Record):
        return chosen.state
    return {} if chosen is True else None  # the defaults of `PostProcessor`


def _read_module(file: TorchFile, module: Record) -> AnomalibFile:
    name = module.name.rpartition(".")[2]
    if name != "Patchcore":
        raise ValueError(f"its model is {quote(name)}")
    tensors = file.tensors(lambda _: dict(_module_tensors(module)))
    _refuse_other_model(tensors)
    parts = _submodules(module)
    inner = parts.get("model")
    if not isinstance(inner, Record):
        raise ValueError("its module has no submodule `model`")
    pre, post = parts.get("pre_processor"), parts.get("post_processor")
    return AnomalibFile(
        tensors=tensors,
        settings=inner.state,
        steps=_steps(_transform_of(pre)) if isinstance(pre, Record) else None,
        post=post.state if isinstance(post, Record) else None,
    )


def _refuse_other_model(tensors: Mapping[str, NDArray[Any]]) -> None:
    for start, name in _OTHERS.items():
        if any(key.startswith(start) for key in tensors):
            raise ValueError(f"its tensors are those of {name}")
    if "image_threshold.value" in tensors or "pixel_threshold.value" in tensors:
        raise ValueError("it is of anomalib 1, whose model anomalib 2 cannot load either")
    if "model.memory_bank" not in tensors:
        raise ValueError("the tensor model.memory_bank is missing")


def _module_tensors(module: Record) -> Iterator[tuple[str, object]]:
    """Every parameter and buffer of a module, under its name in the state dict."""
    waiting: list[tuple[str, Record, int]] = [("", module, 0)]
    seen = 0
    while waiting:
        prefix, one, depth = waiting.pop()
        seen += 1
        if seen > _MOST_PARTS or depth > _DEEPEST:
            raise ValueError("its modules are nested without end")
        for kind in ("_parameters", "_buffers"):
            items = _items(one.state.get(kind))
            seen += len(items)
            for name, tensor in items.items():
                if tensor is not None:
                    yield f"{prefix}{name}", tensor
        for name, part in _submodules(one).items():
            if isinstance(part, Record):
                waiting.append((f"{prefix}{name}.", part, depth + 1))


def _submodules(module: Record) -> Mapping[str, object]:
    return _items(module.state.get("_modules"))


def _items(value: object) -> Mapping[str, Any]:
    """The items of a dict, or of an object of a class derived from dict; else none."""
    found = value.items if isinstance(value, Record) else value
    return found if isinstance(found, dict) else {}


def _transform_of(processor: Record) -> object:
    """The transform of a pickled pre-processor: a submodule, or an attribute of another kind."""
    return _submodules(processor).get("transform", processor.state.get("transform"))


def _steps(transform: object) -> list[Step] | None:
    """The transforms of a pipeline by their short names; a Compose is unpacked once."""
    if transform is None:
        return None
    name, settings = _step(transform)
    if name != "Compose":
        return [(name, settings)]
    parts = settings.get("transforms")
    if not isinstance(parts, list | tuple):
        raise ValueError("its transforms are not a list")
    return [_step(part) for part in parts]


def _step(transform: object) -> Step:
    if isinstance(transform, Record):
        return transform.name.rpartition(".")[2], _plain(transform.state)
    spec = _items(transform)
    if isinstance(spec.get("class_path"), str):
        return spec["class_path"].rpartition(".")[2], _plain(_items(spec.get("init_args")))
    raise ValueError(f"one of its transforms is {quote(transform)}")


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose members of an enumeration are replaced by their values."""
    return {
        name: value.arguments[0] if isinstance(value, Record) and value.arguments else value
        for name, value in settings.items()
    }


def scalar(tensors: Mapping[str, NDArray[Any]], name: str) -> float:
    """One number of the state dict; NaN if it is missing.

    Raises:
        ValueError: it is not one number.
    """
    value = tensors.get(name)
    if value is None:
        return float("nan")
    if value.size != 1:
        raise ValueError(f"{name} has {value.size} numbers instead of one")
    return float(np.asarray(value, np.float64).ravel()[0])
