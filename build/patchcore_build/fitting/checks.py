"""Check a fit before it begins: a job -> nothing, or the refusal that long work would end with."""

from patchcore_build.calibration.folds import check_pattern
from patchcore_build.coreset.checkpoint import check_folder
from patchcore_build.data.roi import check_roi
from patchcore_build.fitting.job import FitJob
from patchcore_build.fitting.review import REVIEW_PAGE
from patchcore_build.weights.read import check_source
from patchcore_runtime.artifact.writing import check_new_folder
from patchcore_runtime.files.whole import check_writable, refuse_folders


def check_job(job: FitJob, *, own_network: bool = True) -> None:
    """Check every output, weights file and option of a fit; nothing remains on the disk.

    Args:
        job: The fit.
        own_network: Whether its network is made of the backbone and weights of the job.

    Raises:
        OutputError: an output exists or cannot be written.
        WeightsError: there is no such weights file.
        DatasetError: `groups` is no regular expression with a group.
        ImageError: `roi` is neither a polygon nor a readable image.
    """
    check_new_folder(job.output)
    if job.checkpoints is not None:
        check_folder(job.checkpoints)
    if job.review is not None:
        check_writable(job.review)
        refuse_folders([job.review / REVIEW_PAGE])
    if own_network and job.network is None:
        check_source(job.config.backbone, job.weights)
    if job.groups is not None:
        check_pattern(job.groups)
    if job.roi is not None:
        check_roi(job.roi)
