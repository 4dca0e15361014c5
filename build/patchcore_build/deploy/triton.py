"""Write a model repository for NVIDIA's Triton Inference Server: one ONNX file and its config.

artifact -> FOLDER/NAME/config.pbtxt, FOLDER/NAME/1/model.onnx. Triton's ONNX Runtime backend runs
it. The text follows Triton's documentation of `ModelConfig`; it was not tried on a server here.
"""

import re
from pathlib import Path

from patchcore_build.deploy.batch import check_batch
from patchcore_build.deploy.one_file import OneFile, OneFileReport, export_one_file
from patchcore_build.errors import require
from patchcore_runtime.artifact.folder import Artifact
from patchcore_runtime.artifact.writing import check_new_folder, new_folder

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_FILE = "model.onnx"


def check_model_name(name: str) -> None:
    """Refuse a name that is no folder's name on every system.

    Raises:
        SettingError: it has other characters than letters, digits, `_`, `.` and `-`.
    """
    plain = _NAME.fullmatch(name) is not None and not name.startswith(".")
    require(plain, "--name", "letters, digits, `_`, `.` and `-`", repr(name))


def check_triton(target: Path, name: str, most_batch: int) -> None:
    """Check before long work that a model can be added to a repository.

    Raises:
        OutputError: it has a model of that name, or cannot be written.
        SettingError: the name or the batch is out of range.
    """
    check_model_name(name)
    check_batch(most_batch)
    check_new_folder(target / name)


def export_triton(
    artifact: Artifact, target: Path, settings: OneFile, *, name: str, most_batch: int
) -> OneFileReport:
    """Add a model to a new or existing repository, whole or not at all.

    Args:
        artifact: Any artifact.
        target: The repository; it is created if it does not exist.
        settings: As for one ONNX file.
        name: Name of the model.
        most_batch: Largest batch that Triton may form.

    Raises:
        ExportError: as `export_one_file`.
        OutputError: the repository has a model of that name, or cannot be written.
        SettingError: the name or the batch is out of range.
    """
    check_triton(target, name, most_batch)
    with new_folder(target / name) as staging:
        version = staging / "1"
        version.mkdir()
        named = target / name / "1" / _FILE
        report = export_one_file(artifact, version / _FILE, settings, named=named)
        text = config_text(artifact, report.input_size, name=name, most_batch=most_batch)
        (staging / "config.pbtxt").write_text(text, encoding="utf-8")
    return report


def config_text(
    artifact: Artifact, input_size: tuple[int, int], *, name: str, most_batch: int
) -> str:
    """Return config.pbtxt; a result that is one number per image is reshaped from [1]."""
    manifest = artifact.manifest
    height, width = manifest.preprocess.height, manifest.preprocess.width
    rows, columns = manifest.grid.cells
    outputs = [
        _output("score", "TYPE_FP32", ()),
        _output("is_anomalous", "TYPE_BOOL", ()),
        _output("anomaly_map", "TYPE_FP32", (height, width)),
        _output("patch_distances", "TYPE_FP32", (rows, columns)),
    ]
    image = _entry("image", "TYPE_UINT8", (*input_size, 3), "")
    return (
        f'name: "{name}"\n'
        'backend: "onnxruntime"\n'
        f"max_batch_size: {most_batch}\n"
        f"input [\n{image}\n]\n"
        f"output [\n{','.join(chr(10) + one for one in outputs).lstrip(chr(10))}\n]\n"
        "dynamic_batching { }\n"
    )


def _output(name: str, kind: str, sides: tuple[int, ...]) -> str:
    if sides:
        return _entry(name, kind, sides, "")
    return _entry(name, kind, (1,), "\n    reshape: { shape: [ ] }")


def _entry(name: str, kind: str, sides: tuple[int, ...], more: str) -> str:
    dims = ", ".join(map(str, sides))
    return f'  {{\n    name: "{name}"\n    data_type: {kind}\n    dims: [ {dims} ]{more}\n  }}'
