"""The aims of `make bench`, and the text above its tables."""

from benchmarks.bench.arena import WIDE
from benchmarks.harness.headlines import Target

_PREDICT = "predict without decode and resize"
_SEARCHES = ("--search pca", "float16 bank")
TARGETS = (
    Target(
        words=f"{WIDE}, 1 %: {_PREDICT} / features.onnx alone",
        section="score", case=f"{WIDE}, 1 %", peer=_PREDICT, us="features", at_most=1.3,
    ),
    Target(
        words=f"{WIDE}, 1 %: search / features.onnx alone",
        section="score", case=f"{WIDE}, 1 %", peer="search", us="features", at_most=0.25,
    ),
    Target(
        words=f"resnet18, 1 %: {_PREDICT} / features.onnx alone",
        section="score", case="resnet18, 1 %", peer=_PREDICT, us="features",
    ),
    *(
        Target(
            words=f"{backbone}, 10 %, {task}: exact / {who}",
            section="searches", case=f"{backbone}, 10 %: {task}", peer="exact", us=who,
        )
        for backbone in (WIDE, "resnet18")
        for task in ("search", "predict input")
        for who in _SEARCHES
    ),
    *(
        Target(
            words=f"{WIDE}, 1 %, {task}: float32 / --quantize int8",
            section="int8", case=f"{WIDE}, 1 %: {task}", peer="float32", us="int8",
            at_least=2.2,
        )
        for task in ("features", "predict input")
    ),
    Target(
        words="resnet18: seconds from the command to its result",
        section="coldstart", case="resnet18, 1 %", peer="score", us=None, at_most=1.0,
    ),
)  # fmt: skip
ABOUT = {
    "fit": (
        "Fit: seconds per stage",
        "Each case once, in a process of its own with all cores, five folds.",
    ),
    "score": (
        "Score one image",
        """\
Each case in a process of its own, all stages of an image taking turns; `features` is the bare
onnxruntime time of features.onnx. A network takes images one at a time on purpose, so eight
images are measured in both ways there are, time per image: one at a time with all threads
on each (`Detector.predict_batch`), and several at once with one thread each, as
`patchcore-runtime score` works. Peak memory is that of a process which does nothing else. GFLOP
count the multiplications and additions of Conv, Gemm and MatMul from their shapes.""",
    ),
    "searches": (
        "Searches of a large bank",
        """\
Each a process of its own, taking turns. `search` is the nearest row of each patch alone,
`predict input` is predict without decode and resize.""",
    ),
    "int8": (
        "The network in int8",
        """\
`fit --quantize int8`, for processors with int8 instructions (VNNI): others gain less. `features`
is features.onnx alone.""",
    ),
    "float16": (
        "A bank in float16",
        "The same rows in half the bytes: all test images with both banks.",
    ),
    "coldstart": (
        "Cold start",
        """\
`patchcore-runtime score` with one image, from the start of the process to its line of JSON,
files in the cache. The parts are medians of another process that does the same steps with a
clock.""",
    ),
}
