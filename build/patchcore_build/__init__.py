"""Build PatchCore artifacts from good photographs with MindSpore.

    from pathlib import Path
    from patchcore_build import FitJob, fit, make_config

    config = make_config("full-frame", backbone="resnet18")
    fit(FitJob(images=Path("good"), category="part", output=Path("artifacts/part"),
               config=config, weights="resnet18.pth"))

Importing is light; MindSpore is imported when something is built.
"""

from patchcore_build._version import __version__ as __version__
from patchcore_build.config import Config, make_config
from patchcore_build.evaluation.evaluate import Evaluation, evaluate
from patchcore_build.fitting.fit import fit
from patchcore_build.fitting.job import FitJob, FitReport

__all__ = ["Config", "Evaluation", "FitJob", "FitReport", "evaluate", "fit", "make_config"]
