"""Build PatchCore artifacts from good photographs with MindSpore.

    from pathlib import Path
    from patchcore_build import FitJob, fit, make_config

    config = make_config("full-frame", backbone="resnet18")
    fit(FitJob(images=Path("good"), category="part", output=Path("artifacts/part"),
               config=config, weights="resnet18.pth"))

Importing is light: a name is loaded when it is first used, and MindSpore when something is built.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from patchcore_build._version import __version__ as __version__

if TYPE_CHECKING:
    from patchcore_build.config import Config, make_config
    from patchcore_build.evaluation.evaluate import Evaluation, evaluate
    from patchcore_build.fitting.fit import fit
    from patchcore_build.fitting.job import FitJob, FitReport

__all__ = ["Config", "Evaluation", "FitJob", "FitReport", "evaluate", "fit", "make_config"]

_MODULES = {
    "Config": "patchcore_build.config",
    "Evaluation": "patchcore_build.evaluation.evaluate",
    "FitJob": "patchcore_build.fitting.job",
    "FitReport": "patchcore_build.fitting.job",
    "evaluate": "patchcore_build.evaluation.evaluate",
    "fit": "patchcore_build.fitting.fit",
    "make_config": "patchcore_build.config",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
