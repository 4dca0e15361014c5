"""features.onnx in float32 + good images -> the same network in int8 (artifacts/FORMAT.md).

onnxruntime's quantizer makes a static QDQ graph: uint8 activations, int8 weights with one scale per
output channel. All convolutions except the first, and all additions, run in integers once
onnxruntime has loaded the file. Normalisation, the first convolution, the pool behind it, the final
3x3 averages and both outputs stay float32. Ranges are the smallest and largest values on a seeded
sample of the images.

Measured with resnet18 (benchmarks/results/quantization.md): ranges by percentiles or entropy are no
more accurate, take up to three times as long, and clip the activations of defects. An int8 first
convolution loses more AUROC. Weights have 7 bits, because x86 without VNNI adds two products in 16
bits: 2 * 255 * 127 would saturate silently, and 2 * 255 * 64 = 32640 fits. onnxruntime's own
remedy, `session.x64quantprecision`, makes every processor twice as slow.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, version_converter

from patchcore_build.errors import ExportError
from patchcore_build.export.graph_edits import drop_unused, made_by
from patchcore_runtime.files.staging import scratch_folder
from patchcore_runtime.files.whole import write_whole

OPSET = 13  # the first with one scale per channel
CALIBRATION_IMAGES = 64
QUANTIZED = ("Conv", "Relu", "Add")  # a quantized Relu disappears: its 0 is the smallest uint8
_BATCH = 4  # images; only minima and maxima of their activations are kept
_METADATA = "onnx.quant.pre_process", "onnxruntime.quant"  # "prepared": it warns otherwise


def quantize_features(
    source: Path, target: Path, images: NDArray[np.uint8], *, seed: int
) -> dict[str, Any]:
    """Write the int8 twin of a float32 network.

    The same network, images and seed give the same bytes. 64 images through resnet18 at 224 px
    take about 4 s on two cores; memory is that of a forward pass of four images.

    Args:
        source: A features.onnx of `export.graphs`, of convolutions, ReLU and additions.
        target: The file to write, whole or not at all.
        images: Preprocessed good images, uint8 (N, H, W, 3), N >= 1.
        seed: Seed of the sample of `CALIBRATION_IMAGES` images.

    Returns:
        The method and the images, for the manifest's provenance.

    Raises:
        ExportError: the network cannot be quantized, or its inputs or outputs would change.
        OutputError: `target` cannot be written.
    """
    chosen = sample_images(len(images), seed=seed)
    with scratch_folder() as folder:
        prepared, quantized = folder / "prepared.onnx", folder / "int8.onnx"
        original = onnx.load(source)
        onnx.save(_prepare(original), prepared)
        _quantize(prepared, quantized, _Images(images, chosen))
        model = onnx.load(quantized)
    _clean(model)
    _require_same_signature(source, original, model)
    onnx.checker.check_model(model, full_check=True)
    write_whole(target, model.SerializeToString(deterministic=True))
    return {
        "method": "static QDQ, uint8 activations, 7-bit weights per channel, float32 first layer",
        "ranges": "minimum and maximum",
        "calibration_images": [int(number) for number in chosen],
    }


def sample_images(count: int, *, seed: int) -> NDArray[np.int64]:
    """Numbers of the images that determine the ranges, ascending; all images if they are few."""
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[:CALIBRATION_IMAGES]).astype(np.int64)


class _Images:
    """The reader for onnxruntime's calibration: a few images at a time, then None."""

    def __init__(self, images: NDArray[np.uint8], chosen: NDArray[np.int64]) -> None:
        self._images = images
        self._batches = iter(np.split(chosen, range(_BATCH, len(chosen), _BATCH)))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next batch by the name of the input."""
        batch = next(self._batches, None)
        return None if batch is None else {"images": np.ascontiguousarray(self._images[batch])}


def _prepare(model: Any) -> Any:
    """The model in a newer opset, with ReLU behind pools, and with inferred types."""
    newer = version_converter.convert_version(model, OPSET)
    _rectify_after_pools(newer.graph)
    typed = onnx.shape_inference.infer_shapes(newer)  # the quantizer skips values without a type
    helper.set_model_props(typed, dict([_METADATA]))
    return typed


def _rectify_after_pools(graph: Any) -> None:
    """Replace ReLU and MaxPool by MaxPool and Max with 0, which gives the same numbers.

    If the pool came last, onnxruntime would quantize in front of it, and it pools bytes sixteen
    times slower than float32: 11 % of wide_resnet50_2. Unlike ReLU, Max with 0 stays behind it.
    """
    makers = made_by(graph)
    for pool in [node for node in graph.node if node.op_type == "MaxPool"]:
        relu = makers.get(pool.input[0])
        if relu is None or relu.op_type != "Relu":
            continue
        pooled, largest = f"{relu.output[0]}_pooled", pool.output[0]
        zero = numpy_helper.from_array(np.zeros((), np.float32), f"{largest}_least")
        graph.initializer.append(zero)
        pool.input[0], pool.output[0] = relu.input[0], pooled
        rectified = helper.make_node(
            "Max", [pooled, zero.name], [largest], f"{pool.name}_rectified"
        )
        graph.node.insert(list(graph.node).index(pool) + 1, rectified)
    drop_unused(graph)


def _quantize(prepared: Path, quantized: Path, images: _Images) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    convolutions = [node.name for node in onnx.load(prepared).graph.node if node.op_type == "Conv"]
    quantize_static(
        str(prepared),
        str(quantized),
        images,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTIZED),
        nodes_to_exclude=convolutions[:1],
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )


def _clean(model: Any) -> None:
    """Keep one opset, and remove the metadata of the tools."""
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", OPSET))
    del model.graph.value_info[:]
    del model.metadata_props[:]


def _require_same_signature(source: Path, before: Any, after: Any) -> None:
    for old, new in zip(
        [*before.graph.input, *before.graph.output],
        [*after.graph.input, *after.graph.output],
        strict=True,
    ):
        if old != new:
            raise ExportError(
                f"{source}: {old.name}: expected its type and shape to survive quantization, got "
                f"{new.name} {new.type}; keep --quantize none".replace("\n", " ")
            )
    kinds = {node.op_type for node in after.graph.node}
    if "QuantizeLinear" not in kinds:
        raise ExportError(
            f"{source}: expected convolutions to quantize, got {sorted(kinds)}; "
            "keep --quantize none"
        )
