"""Laws of the CUDA provider; most of them run only with onnxruntime-gpu and a GPU."""

from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from patchcore_runtime import Artifact, Detector
from patchcore_runtime.cli.freed_memory import loading
from patchcore_runtime.engine.session import CPU, CUDA, open_network
from patchcore_runtime.errors import ProviderError
from patchcore_runtime.selftest import run_selftest

BOTH = (CUDA, CPU)
needs_cuda = pytest.mark.skipif(
    CUDA not in onnxruntime.get_available_providers(),
    reason="onnxruntime-gpu is not installed; on a machine with a GPU it runs this",
)


def test_cuda_gets_full_float32_products_after_its_libraries_are_loaded(tiny_artifact, monkeypatch):
    asked = []

    def session(*_, providers, **__):
        asked.append(providers)
        return SimpleNamespace(get_providers=lambda: [name for name, _ in providers])

    def preload_dlls():
        print("a library is missing")
        asked.append("libraries")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(BOTH))
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload_dlls, raising=False)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    open_network(tiny_artifact / "features.onnx", providers=BOTH)
    assert asked == ["libraries", [(CUDA, {"use_tf32": "0"}), (CPU, {})]]


def test_output_of_cuda_does_not_mix_with_results(tiny_artifact, monkeypatch, capsys):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(BOTH))
    told = "a library is missing"
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print(told), raising=False)
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda *_, **__: SimpleNamespace(get_providers=lambda: [CUDA]),
    )
    with loading():  # as the commands do
        open_network(tiny_artifact / "features.onnx", providers=BOTH)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "a library is missing\n")


def test_a_provider_that_fails_is_named_without_a_fallback_to_the_cpu(
    tiny_artifact, monkeypatch, capsys
):
    create = onnxruntime.InferenceSession._create_inference_session

    def fail(session, providers, *rest):
        if providers[0][0] == CUDA:
            raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected")
        create(session, providers, *rest)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(BOTH))
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)  # it prints on machines without
    monkeypatch.setattr(onnxruntime.InferenceSession, "_create_inference_session", fail)
    with pytest.raises(ProviderError, match=r"no CUDA-capable device is detected.*choose CPU"):
        open_network(tiny_artifact / "features.onnx", providers=BOTH)
    assert capsys.readouterr().out == ""


@needs_cuda
def test_the_artifacts_own_test_passes(tiny_artifact):
    steps = run_selftest(Artifact.open(tiny_artifact), providers=BOTH)
    assert all(step.passed for step in steps), steps


@needs_cuda
def test_scores_maps_and_rows_equal_those_of_the_cpu(tiny_artifact):
    there, here = (Detector.load(tiny_artifact, providers=kind) for kind in (BOTH, (CPU,)))
    image = tiny_artifact / "selftest.png"
    got, expected = there.predict(image), here.predict(image)
    assert got.score == pytest.approx(expected.score, rel=1e-4)
    largest = float(np.abs(expected.anomaly_map).max())
    assert float(np.abs(got.anomaly_map - expected.anomaly_map).max()) <= 1e-4 * largest
