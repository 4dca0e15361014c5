"""Open ONNX files for inference; the only module that imports onnxruntime, and only when called.

path of an .onnx file -> a graph that runs on the chosen execution providers and threads.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from patchcore_runtime.engine.network import check_network
from patchcore_runtime.engine.onnx_model import MOST_MODEL_BYTES, model_bytes, read_model
from patchcore_runtime.errors import ArtifactError, PatchCoreError, ProviderError, SettingError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

Shape = tuple[int, ...]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

_FOLDER_OF_WEIGHTS = "session.model_external_initializers_file_folder_path"

# TF32 keeps 10 bits of a factor. Distances would be off by 1e-3, a hundred times the tolerance of
# an artifact's self-test.
_PROVIDER_SETTINGS = {CUDA: {"use_tf32": "0"}}


class Graph:
    """A loaded graph that computes; safe to share between threads.

    Errors of onnxruntime become errors of this package.
    """

    def __init__(self, path: Path, session: "InferenceSession", provider: str = CPU) -> None:
        self._path = path
        self._session = session
        self._provider = provider

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of the graph's outputs, in order."""
        return tuple(output.name for output in self._session.get_outputs())

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Compute outputs, in the order of their names.

        Raises:
            ArtifactError: onnxruntime cannot compute them.
            ProviderError: a provider other than the CPU's failed.
        """
        try:
            values: list[Any] = self._session.run(outputs, inputs)
        except _errors() as error:
            raise _translated(error, self._path, self._provider, "run") from None
        return values


def open_network(
    path: Path,
    *,
    shapes: Mapping[str, Shape] | None = None,
    threads: int | None = None,
    providers: Sequence[str] = (CPU,),
) -> Graph:
    """Load a feature network, which is checked before onnxruntime gets it.

    Args:
        path: features.onnx; it holds all its weights.
        shapes: Shapes of `images` and of the layers that are required, in order, each without the
            leading B; `None` accepts the file's own.
        threads: Threads of one operator; `None` uses all available cores.
        providers: onnxruntime execution providers in order of preference.

    Raises:
        ProviderError: a provider is not in this build of onnxruntime, or did not start.
        ArtifactError: the file is not such a network, or onnxruntime cannot load it.
    """
    # Given the file, onnxruntime would read all of it and copy each tensor out of it. It maps
    # weights that are external data. Other providers may copy a graph for themselves, so they get
    # it whole and use more memory.
    in_place = list(providers) == [CPU]
    model = read_model(path) if in_place else read_model(path, least_bytes=MOST_MODEL_BYTES)
    got = check_network(path, model)
    if shapes is not None and list(got) != list(shapes):
        raise ArtifactError(
            f"{path}: expected the outputs {', '.join(list(shapes)[1:])} as manifest.json says, "
            f"got {', '.join(list(got)[1:])!r:.80}; the files belong to different artifacts, copy "
            "the folder again"
        )
    for name, shape in (shapes or got).items():
        if got[name] != shape:
            raise ArtifactError(
                f"{path}: {name}: expected (B, {', '.join(map(str, shape))}) as manifest.json "
                f"says, got {got[name]!s:.80}; the files belong to different "
                "artifacts, copy the folder again"
            )
    return open_graph(model_bytes(model, path.name), path, threads=threads, providers=providers)


def open_graph(
    content: bytes | Path,
    path: Path,
    *,
    threads: int | None = None,
    providers: Sequence[str] = (CPU,),
    repack: bool = True,
) -> Graph:
    """Load a graph whose content this program wrote or checked.

    Args:
        content: The graph, or the path of its file.
        path: Its file, for messages; external data lies beside it.
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

    _require_providers(providers, onnxruntime.get_available_providers())
    options = session_options(path, threads=threads, repack=repack)
    if CUDA in providers:
        _load_cuda()
    chosen = [(provider, _PROVIDER_SETTINGS.get(provider, {})) for provider in providers]
    try:
        session = onnxruntime.InferenceSession(
            content,
            options,
            providers=chosen,
            enable_fallback=0,  # a fallback would use the CPU instead and report it on stdout
        )
    except _errors() as error:
        raise _translated(error, path, providers[0], "load") from None
    started = session.get_providers()
    if providers[0] not in started:
        raise ProviderError(f"provider {providers[0]}: did not start; got {', '.join(started)}")
    return Graph(path, session, providers[0])


def _errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that onnxruntime raises; it has no common base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as raised

    return (
        *_not_the_file(),
        raised.InvalidArgument,
        raised.InvalidGraph,
        raised.InvalidProtobuf,
        raised.NoSuchFile,
        raised.NotImplemented,
        ValueError,
    )


def _not_the_file() -> tuple[type[Exception], ...]:
    """Return those that a driver or a device may have caused."""
    from onnxruntime.capi import onnxruntime_pybind11_state as raised

    return (raised.EPFail, raised.Fail, raised.RuntimeException, RuntimeError)


def _translated(error: Exception, path: Path, provider: str, what: str) -> PatchCoreError:
    reason = " ".join(str(error).split())[:200]
    if provider != CPU and isinstance(error, _not_the_file()):
        failed = "did not start" if what == "load" else "failed"
        return ProviderError(
            f"provider {provider}: {failed} ({reason}); check that its driver and libraries are "
            f"installed, or choose {CPU}"
        )
    return ArtifactError(f"{path}: onnxruntime cannot {what} it ({reason})")


def _require_providers(providers: Sequence[str], available: Sequence[str]) -> None:
    """Refuse a provider that this build of onnxruntime does not have."""
    for provider in providers:
        if provider not in available:
            raise ProviderError(
                f"provider {provider}: not in this onnxruntime, which has {', '.join(available)}; "
                "install an onnxruntime build that includes it"
            )


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
        # As bytes, because a folder's name need not be UTF-8.
        options.add_session_config_entry(_FOLDER_OF_WEIGHTS, os.fsencode(path.parent))
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
