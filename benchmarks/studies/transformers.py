r"""Speed of DINOv2 by part, beside timm, torch and OpenVINO -> benchmarks/results/transformers.md.

    python -m benchmarks.studies.transformers ARTIFACT [--rounds N] [--threads 2]

ARTIFACT was made by `fit --recipe dino --weights random`, for instance. All programs take turns in
one run. Beside the median of the clock stands the processor's time divided by the threads, which
other work on the machine disturbs less; threads sleep while they wait, so that it counts work only.
Programs of benchmarks/parity/requirements.txt that are not installed are left out by name.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before any library starts its threads

import argparse
import importlib.util
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from benchmarks.places import RESULTS_FOLDER
from patchcore_build.benchmark.machine import describe_machine
from patchcore_build.vision_transformers import HEAD_SIZE, VITS
from patchcore_runtime import Artifact, Detector
from patchcore_runtime.artifact.folder import FEATURES_ONNX, INDEX_ONNX
from patchcore_runtime.image.decode import read_image
from patchcore_runtime.image.preprocess import fit_to_input

TARGET = RESULTS_FOLDER / "transformers.md"
WARM_UP = 2
CALIBRATION = 6  # images behind the ranges of static int8
PLAIN = "features.onnx, ORT_ENABLE_ALL"
SEARCH = "index.onnx, exact search"
_LEVELS = onnxruntime.GraphOptimizationLevel
Run = Callable[[], Any]


def main() -> None:
    """Measure, and write the record and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    record = measure(arguments.artifact, arguments.rounds, arguments.threads)
    TARGET.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    TARGET.write_text(page(record), "utf-8")
    print(TARGET.read_text("utf-8"))


def measure(folder: Path, rounds: int, threads: int) -> dict[str, Any]:
    """Measure everything about an artifact; return the record."""
    artifact = Artifact.open(folder)
    backbone = artifact.manifest.features.backbone
    model = artifact.path(FEATURES_ONNX)
    image = read_image(artifact.path("selftest.png"))
    pixels, placement = fit_to_input(image, artifact.manifest.preprocess)
    batch = np.ascontiguousarray(pixels[None])
    shape, (height, width) = VITS[backbone], batch.shape[1:3]
    tokens = height // shape.patch_px * (width // shape.patch_px) + shape.prefix
    runs: dict[str, Run] = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for level in ("ENABLE_ALL", "DISABLE_ALL"):
            runs[f"features.onnx, ORT_{level}"] = _session(model, batch, threads, level)
        for kind, path in _fused(model, scratch, shape.width, tokens).items():
            runs[f"features.onnx, {kind}"] = _session(path, batch, threads)
        int8 = _quantized(model, scratch, batch)
        for kind, path in int8.items():
            runs[f"features.onnx, {kind}"] = _session(path, batch, threads)
        runs[SEARCH] = _search(artifact, runs[PLAIN](), threads)
        detector = Detector.load(folder, threads=threads)
        runs["whole image: features, search, score, map"] = lambda: detector.predict_input(
            pixels, placement
        )
        runs |= _peers(backbone, model, batch, threads)
        side = 1536
        square = np.random.default_rng(0).random((side, side), np.float32)
        runs["product of matrices"] = _product(square, threads, scratch)
        load = os.getloadavg()[0]
        times = take_turns(runs, rounds, threads)
        plain = runs[PLAIN]()[0]
        errors = {kind: _error(runs[f"features.onnx, {kind}"]()[0], plain) for kind in int8}
        parts = _parts(model, batch, threads)
    return {
        "machine": describe_machine(),
        "load": load,
        "backbone": backbone,
        "input": [height, width],
        "rows": artifact.manifest.memory_bank.rows,
        "threads": threads,
        "rounds": rounds,
        "gflop": _gflop(backbone, tokens),
        "peak_gflop": 2 * side**3 / 1e9,
        "times": times,
        "parts": parts,
        "errors": errors,
        "left_out": [name for name in ("torch", "timm", "openvino") if not _has(name)],
    }


def take_turns(runs: dict[str, Run], rounds: int, threads: int) -> dict[str, dict[str, float]]:
    """Run all in turn; return ms by the clock, and of processor time over threads."""
    clock: dict[str, list[float]] = defaultdict(list)
    busy: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds + WARM_UP):
        for name, run in runs.items():
            start, before = time.perf_counter(), time.process_time()
            run()
            clock[name].append(1e3 * (time.perf_counter() - start))
            busy[name].append(1e3 * (time.process_time() - before) / threads)
    return {
        name: {
            "clock": statistics.median(clock[name][WARM_UP:]),
            "least": min(clock[name][WARM_UP:]),
            "busy": statistics.median(busy[name][WARM_UP:]),
        }
        for name in runs
    }


def _options(threads: int, level: str = "ENABLE_ALL") -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = getattr(_LEVELS, f"ORT_{level}")
    return options


def _session(path: Path, batch: NDArray[Any], threads: int, level: str = "ENABLE_ALL") -> Run:
    session = onnxruntime.InferenceSession(
        path, _options(threads, level), providers=["CPUExecutionProvider"]
    )
    (given,) = session.get_inputs()
    return lambda: session.run(None, {given.name: batch})


def _search(artifact: Artifact, layers: list[NDArray[np.float32]], threads: int) -> Run:
    session = onnxruntime.InferenceSession(
        artifact.path(INDEX_ONNX), _options(threads), providers=["CPUExecutionProvider"]
    )
    names = [layer.name for layer in artifact.manifest.features.layers]
    given = dict(zip(names, layers, strict=True))
    return lambda: session.run(None, given)


def _parts(path: Path, batch: NDArray[Any], threads: int, runs: int = 8) -> dict[str, float]:
    """Share of each part of the network in onnxruntime's own profile."""
    model = onnx.load(path)
    part_of = {}
    for node in model.graph.node:
        weight = next((name for name in node.input if name.endswith(".weight")), "")
        leaf = weight.split(".")[-2] if weight else ""
        attention = leaf in ("query", "key", "value", "proj")
        part_of[node.name] = (
            "linear layers of the attention" if attention
            else "linear layers of the perceptron" if leaf in ("fc1", "fc2")
            else None
        )  # fmt: skip
    kinds = {
        "Conv": "patch embedding",
        "MatMul": "products of the attention",
        "Softmax": "softmax",
        "Gelu": "GELU",
    }
    taken: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        options = _options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for _ in range(runs):
            session.run(None, {"images": batch})
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name, kind = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            taken[part_of.get(name) or kinds.get(kind, "norms, sums, transpositions")] += event[
                "dur"
            ]
    whole = sum(taken.values())
    return {name: value / whole for name, value in sorted(taken.items(), key=lambda x: -x[1])}


def _fused(path: Path, folder: Path, width: int, tokens: int) -> dict[str, Path]:
    """The network with every attention as one operator, which features.onnx may not have."""
    made = {}
    for kind, domain in (("MultiHeadAttention", "com.microsoft"), ("Attention", "")):
        model = onnx.load(path)
        _fuse_attention(model.graph, kind, width, tokens)
        if domain:
            model.opset_import.append(helper.make_opsetid(domain, 1))
        else:
            model.opset_import[0].version, model.ir_version = 23, 10
        made[f"with {domain or 'opset 23'} {kind}"] = folder / f"{kind}.onnx"
        onnx.save(model, folder / f"{kind}.onnx")
    return made


def _fuse_attention(graph: Any, kind: str, width: int, tokens: int) -> None:
    makers = {name: node for node in graph.node for name in node.output}
    readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    shape = numpy_helper.from_array(np.array([-1, tokens, width], np.int64), "tokens_shape")
    graph.initializer.append(shape)
    replaced: dict[str, list[Any]] = {}
    dropped = set()
    for softmax in [node for node in graph.node if node.op_type == "Softmax"]:
        likeness = makers[softmax.input[0]]
        (mixture,) = readers[softmax.output[0]]
        query, turned = (makers[name] for name in likeness.input)
        heads = [query, makers[turned.input[0]], makers[mixture.input[1]]]
        dropped |= {node.name for node in (likeness, turned, softmax, mixture)}
        if kind == "Attention":
            names = [node.output[0] for node in heads]
            result, settings, nodes = mixture.output[0], {}, []
        else:
            (after,) = readers[mixture.output[0]]
            names = [f"{node.name}_flat" for node in heads]
            nodes = [
                helper.make_node("Reshape", [makers[node.input[0]].input[0], shape.name], [name])
                for node, name in zip(heads, names, strict=True)
            ]
            dropped |= {node.name for node in (*heads, after)}
            result, settings = after.output[0], {"num_heads": width // HEAD_SIZE}
            settings["domain"] = "com.microsoft"
        fused = helper.make_node(kind, names, [result], scale=1.0, **settings)
        replaced[mixture.name] = [*nodes, fused]
    kept = []
    for node in graph.node:
        kept += replaced.get(node.name, [] if node.name in dropped else [node])
    del graph.node[:]
    graph.node.extend(kept)


def _quantized(path: Path, folder: Path, batch: NDArray[Any]) -> dict[str, Path]:
    """The network with int8 linear layers, by onnxruntime's dynamic and static quantization."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

    typed, dynamic, static = (folder / f"{name}.onnx" for name in ("typed", "dynamic", "static"))
    quantize_dynamic(
        path,
        dynamic,
        per_channel=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Gemm", "MatMul"],
        extra_options={"MatMulConstBOnly": True},
    )
    onnx.save(onnx.shape_inference.infer_shapes(onnx.load(path)), typed)
    quantize_static(
        typed,
        static,
        _Shifted(batch),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Gemm"],
    )
    return {"int8 by dynamic quantization": dynamic, "int8 by static quantization": static}


class _Shifted:
    """onnxruntime's reader of calibration images: the image, moved by some pixels each time."""

    def __init__(self, batch: NDArray[Any]) -> None:
        self._batches = iter(np.roll(batch, 9 * step, axis=2) for step in range(1, CALIBRATION + 1))

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next batch by the input's name."""
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def _peers(backbone: str, model: Path, batch: NDArray[Any], threads: int) -> dict[str, Run]:
    runs: dict[str, Run] = {}
    if _has("openvino"):
        runs["features.onnx in OpenVINO"] = _openvino(model, batch, threads)
    if not (_has("torch") and _has("timm")):
        return runs
    import timm
    import torch

    torch.set_num_threads(threads)
    name = backbone.replace("dinov2_vit", "").replace("_reg", "")
    size = {"s14": "small", "b14": "base", "l14": "large"}[name]
    registers = "_reg4" if "_reg" in backbone else ""
    height, width = batch.shape[1:3]
    peer = timm.create_model(
        f"vit_{size}_patch14{registers}_dinov2",
        img_size=(height, width),
        pretrained=False,
        global_pool="",
    ).eval()
    images = torch.from_numpy(batch.astype(np.float32).transpose(0, 3, 1, 2) / 255 - 0.5)

    def run() -> Any:
        with torch.inference_mode():
            return peer(images)

    runs["timm in torch"] = run
    if _has("openvino"):
        import openvino

        converted = openvino.convert_model(peer, example_input=images)
        runs["timm in OpenVINO"] = _compiled(converted, images.numpy(), threads)
    return runs


def _openvino(path: Path, batch: NDArray[Any], threads: int) -> Run:
    import openvino

    return _compiled(openvino.Core().read_model(path), batch, threads)


def _compiled(model: Any, batch: NDArray[Any], threads: int) -> Run:
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    return lambda: compiled(batch)


def _product(square: NDArray[np.float32], threads: int, folder: Path) -> Run:
    """A product of two large matrices in onnxruntime: the machine's practical peak."""
    side = len(square)
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [side, side]) for name in "xy"
    ]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        ends[:1],
        ends[1:],
        [numpy_helper.from_array(square, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "product.onnx")
    return _session(folder / "product.onnx", square, threads)


def _error(got: NDArray[np.float32], plain: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(got - plain) / np.linalg.norm(plain))


def _gflop(backbone: str, tokens: int) -> float:
    """Operations of all products, for the last block."""
    shape = VITS[backbone]
    linear = 12 * shape.width**2 * tokens
    attention = 2 * tokens**2 * shape.width
    patches = 3 * shape.patch_px**2 * shape.width * tokens
    return 2 * (shape.blocks * (linear + attention) + patches) / 1e9


def _has(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    machine = ", ".join(f"{name} {value}" for name, value in record["machine"].items())
    size = " x ".join(map(str, record["input"]))
    threads, times = record["threads"], record["times"]
    lines = [
        "# DINOv2 by part, and beside other programs",
        "",
        "Written by `python -m benchmarks.studies.transformers`, with random weights.",
        f"{machine}; load average {record['load']:.1f} before the run.",
        "",
        f"{record['backbone']}, {size} px, {threads} threads, {record['gflop']:.1f} GFLOP;",
        f"medians of {record['rounds']} rounds in which all take turns. *Busy* is the",
        "processor's time over the threads; other work on the machine disturbs it less.",
        "",
        "| program | clock, ms | least, ms | busy, ms | GFLOP/s busy |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, value in times.items():
        work = record["peak_gflop"] if name == "product of matrices" else record["gflop"]
        speed = "" if name == SEARCH else f"{1e3 * work / value['busy']:.0f}"
        figures = " | ".join(f"{value[kind]:.0f}" for kind in ("clock", "least", "busy"))
        lines.append(f"| {name} | {figures} | {speed} |")
    features = times[PLAIN]["busy"]
    lines += ["", "| part of the network | share | busy, ms |", "|---|--:|--:|"]
    lines += [
        f"| {name} | {share:.1%} | {share * features:.1f} |"
        for name, share in record["parts"].items()
    ]
    lines.append(f"| beside it: search in {record['rows']} rows | | {times[SEARCH]['busy']:.1f} |")
    lines += ["", "| int8 | error of the tokens, relative to float32 (root mean square) |"]
    lines += ["|---|--:|"]
    lines += [f"| {name} | {error:.2%} |" for name, error in record["errors"].items()]
    if record["left_out"]:
        lines += ["", f"Not installed, so left out: {', '.join(record['left_out'])}."]
    return "\n".join([*lines, NOTES])


NOTES = """
Our programs' own threads spin while they wait, so the whole image looks busier than it is.
The fused variants are for comparison only. features.onnx holds operators of the default domain up
to opset 20, so `MultiHeadAttention` and `Attention` are refused; the table says what that costs.
onnxruntime itself fuses the error function to GELU when it loads the file, and nothing else of the
attention. The int8 variants are for comparison, too: with random weights their error says little
about trained ones, whose activations have outliers, so `--quantize int8` refuses transformers.
"""


if __name__ == "__main__":
    main()
