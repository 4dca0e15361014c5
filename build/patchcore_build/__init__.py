"""Build PatchCore artifacts from good photographs with MindSpore.

    from pathlib import Path
    from patchcore_build import FitJob, fit, make_config

    config = make_config("full-frame", backbone="resnet18")
    fit(FitJob(images=Path("good"), category="part", output=Path("artifacts/part"),
               config=config, weights="resnet18.pth"))

Importing is light: names are loaded when one is first used, MindSpore when something is built.
"""

import typing as _typing

from patchcore_runtime.lazy_names import lazy_names as _lazy_names

if _typing.TYPE_CHECKING:
    from patchcore_build._version import __version__ as __version__
    from patchcore_build.config import Config, make_config
    from patchcore_build.evaluation.evaluate import Evaluation, evaluate
    from patchcore_build.fitting.fit import fit
    from patchcore_build.fitting.job import FitJob, FitReport

__all__ = ["Config", "Evaluation", "FitJob", "FitReport", "evaluate", "fit", "make_config"]

_MODULES = {
    "__version__": "patchcore_build._version",
    "Config": "patchcore_build.config",
    "Evaluation": "patchcore_build.evaluation.evaluate",
    "FitJob": "patchcore_build.fitting.job",
    "FitReport": "patchcore_build.fitting.job",
    "evaluate": "patchcore_build.evaluation.evaluate",
    "fit": "patchcore_build.fitting.fit",
    "make_config": "patchcore_build.config",
}


__getattr__, __dir__ = _lazy_names(globals(), _MODULES)
