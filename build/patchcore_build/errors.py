"""Every error the workshop raises on purpose, under the runtime's root.

    patchcore_runtime.PatchCoreError
    ├── DatasetError     a folder of images or masks is not what it should be
    ├── WeightsError     a weights file is missing, hostile, or of another network
    ├── DeviceError      a device or precision is not to be had here
    ├── ExportError      an exported graph does not do what MindSpore does
    ├── SearchError      an index moves scores by more than was allowed
    └── AccuracyError    what was asked for would cost more accuracy than is allowed

`OutputError` is the runtime's, which writes artifacts, too. Messages are one line: where, what was
expected, what came, what to do.
"""

from patchcore_runtime.errors import OutputError, PatchCoreError

__all__ = [
    "AccuracyError",
    "DatasetError",
    "DeviceError",
    "ExportError",
    "OutputError",
    "SearchError",
    "WeightsError",
]


class DatasetError(PatchCoreError):
    """A folder of images or masks is not what it should be."""


class WeightsError(PatchCoreError):
    """A weights file is missing, hostile, or of another network."""


class DeviceError(PatchCoreError):
    """A device or precision is not to be had here."""


class ExportError(PatchCoreError):
    """An exported graph does not do what MindSpore does."""


class SearchError(PatchCoreError):
    """An index moves scores by more than was allowed."""


class AccuracyError(PatchCoreError):
    """What was asked for would cost more accuracy than is allowed."""
