"""Every error the workshop raises on purpose, under the runtime's root.

    patchcore_runtime.PatchCoreError
    ├── DatasetError     a folder of images or masks is not what it should be
    ├── WeightsError     a weights file is missing, hostile, or of another network
    ├── ModelError       a detector of another library cannot be imported
    ├── DeviceError      a device or precision is unavailable on this machine
    ├── ExportError      an exported graph computes something else than MindSpore
    ├── SearchError      an index cannot be built, or moves scores by more than is allowed
    └── AccuracyError    a setting costs more accuracy than is allowed

`OutputError` and `SettingError` belong to the runtime, which writes artifacts and takes settings,
too. A message is one line: where, what was expected, what came, what to do.
"""

from patchcore_runtime.errors import OutputError, PatchCoreError, SettingError

__all__ = [
    "AccuracyError",
    "DatasetError",
    "DeviceError",
    "ExportError",
    "ModelError",
    "OutputError",
    "SearchError",
    "SettingError",
    "WeightsError",
    "require",
]


class DatasetError(PatchCoreError):
    """A folder of images or masks is not what it should be."""


class WeightsError(PatchCoreError):
    """A weights file is missing, hostile, or of another network."""


class ModelError(PatchCoreError):
    """A detector of another library cannot be imported."""


class DeviceError(PatchCoreError):
    """A device or precision is unavailable on this machine."""


class ExportError(PatchCoreError):
    """An exported graph computes something else than MindSpore."""


class SearchError(PatchCoreError):
    """An index cannot be built, or moves scores by more than is allowed."""


class AccuracyError(PatchCoreError):
    """A setting costs more accuracy than is allowed."""


def require(
    holds: bool, where: str, expected: str, got: object, *, error: type[Exception] = SettingError
) -> None:
    """Raise `error` with the message "WHERE: expected EXPECTED, got GOT" unless `holds`."""
    if not holds:
        raise error(f"{where}: expected {expected}, got {got}")
