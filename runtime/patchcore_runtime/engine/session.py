"""Open ONNX files for inference; the only module that imports onnxruntime, and only when called.

path of an .onnx file -> InferenceSession on the chosen execution providers and threads.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from patchcore_runtime.engine.mapped_weights import graph_in_place
from patchcore_runtime.errors import ArtifactError, ProviderError, SettingError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg, SessionOptions

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

_FOLDER_OF_WEIGHTS = "session.model_external_initializers_file_folder_path"

# TF32 keeps 10 bits of a factor. Distances would be off by 1e-3, a hundred times the tolerance of
# an artifact's self-test.
_PROVIDER_SETTINGS = {CUDA: {"use_tf32": "0"}}


def open_session(
    path: Path,
    *,
    threads: int | None = None,
    providers: Sequence[str] = (CPU,),
    repack: bool = True,
) -> "InferenceSession":
    """Load one graph.

    Args:
        path: The .onnx file; external data lies beside it.
        threads: Threads of one operator; `None` uses all available cores.
        providers: onnxruntime execution providers in order of preference.
        repack: Let onnxruntime copy weights into the layout that its kernels prefer. Without it
            external data remains mapped from the file: a bank is neither in memory twice nor read
            at load, and a search takes 5 % longer.

    Raises:
        ProviderError: a provider is not in this build of onnxruntime, or did not start.
        SettingError: no thread or no list of providers is given.
        ArtifactError: onnxruntime cannot load the graph.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as raised

    _require_providers(providers, onnxruntime.get_available_providers())
    options = session_options(path, threads=threads, repack=repack)
    if CUDA in providers:
        _load_cuda()
    model: Path | bytes = path
    # Other providers may copy a graph for themselves, so they get the file and use more memory.
    if list(providers) == [CPU]:
        model = graph_in_place(path)
    not_the_file = (raised.EPFail, raised.Fail, raised.RuntimeException, RuntimeError)
    chosen = [(provider, _PROVIDER_SETTINGS.get(provider, {})) for provider in providers]
    try:
        session = onnxruntime.InferenceSession(
            model,
            options,
            providers=chosen,
            enable_fallback=0,  # a fallback would use the CPU instead and report it on stdout
        )
    except (
        *not_the_file,
        raised.InvalidArgument,
        raised.InvalidGraph,
        raised.InvalidProtobuf,
        raised.NoSuchFile,
        raised.NotImplemented,
        ValueError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        if providers[0] != CPU and isinstance(error, not_the_file):
            raise ProviderError(
                f"provider {providers[0]}: did not start ({reason}); check that its driver and "
                f"libraries are installed, or choose {CPU}"
            ) from None
        raise ArtifactError(f"{path}: onnxruntime cannot load it ({reason})") from None
    started = session.get_providers()
    if providers[0] not in started:
        raise ProviderError(f"provider {providers[0]}: did not start; got {', '.join(started)}")
    return session


def _require_providers(providers: Sequence[str], available: Sequence[str]) -> None:
    """Refuse a provider that this build of onnxruntime does not have."""
    for provider in providers:
        if provider not in available:
            raise ProviderError(
                f"provider {provider}: not in this onnxruntime, which has {', '.join(available)}; "
                "install an onnxruntime build that includes it"
            )


def open_own_graph(content: bytes, *, threads: int | None = None) -> "InferenceSession":
    """Load a graph that this process wrote, on the CPU; `threads` as in `open_session`."""
    import onnxruntime

    options = session_options(threads=threads)
    return onnxruntime.InferenceSession(content, options, providers=[CPU])


def session_options(
    path: Path | None = None, *, threads: int | None = None, repack: bool = True
) -> "SessionOptions":
    """Return the session options for a graph at that path, or for a graph in memory.

    benchmarks/studies/session_options.py measures the reasons.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count(threads)
    # A detector has two sessions. Threads that keep spinning after a run of one would slow the
    # other: 20 ms instead of 11 ms per image with resnet18 on two cores (`make bench`).
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.disable_prepacking", str(int(not repack)))
    if path is not None:
        options.add_session_config_entry(_FOLDER_OF_WEIGHTS, str(path.parent))
    options.log_severity_level = 3  # errors; they are raised as exceptions, too
    # One block for all tensors of a run would be kept in addition to the first run's tensors, 17 MB
    # with wide_resnet50_2, and saves no time.
    options.enable_mem_pattern = False
    return options


def _load_cuda() -> None:
    """Load CUDA's libraries from installed PyPI packages, too; onnxruntime prints missing ones."""
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):  # from 1.21 on
        onnxruntime.preload_dlls()


def check_shapes(
    path: Path, values: Iterable["NodeArg"], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse a graph of another artifact.

    Args:
        path: The .onnx file, for messages.
        values: Inputs or outputs of its session.
        shapes: Shapes that are required, by name, each without the leading B.

    Raises:
        ArtifactError: a value is missing or has another shape.
    """
    got = {value.name: tuple(value.shape[1:]) for value in values}
    for name, shape in shapes.items():
        if got.get(name) != shape:
            raise ArtifactError(
                f"{path}: {name}: expected (B, {', '.join(map(str, shape))}) as manifest.json "
                f"says, got {got.get(name, 'none')!s:.80}; the files belong to different "
                "artifacts, copy the folder again"
            )


def thread_count(threads: int | None) -> int:
    """Return the number of threads to use: the given one, or all available cores.

    Raises:
        SettingError: the number is not a whole number of 1 or more.
    """
    if threads is None:
        return usable_cores()
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise SettingError(
            f"threads: expected a whole number of 1 or more, or None for all cores, got {threads!r}"
        )
    return threads


def usable_cores() -> int:
    """Return the number of cores that this process may use, not that of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
