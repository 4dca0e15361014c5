"""Every error the runtime raises on purpose.

    PatchCoreError
    ├── ArtifactError    a file of the artifact is missing, altered or of another version
    │   └── SignatureError   the given key did not sign it, or the given file is not a key
    ├── ImageError       an image cannot be read or does not fit the artifact
    ├── ProviderError    an execution provider or an optional library is not available
    ├── ThresholdError   the artifact cannot support a threshold or false-alarm rate
    ├── MonitorError     a monitor's settings, state file or calibration cannot be used
    ├── EditError        an edit of a memory bank would change nothing, or breaks its guarantee
    ├── SettingError     a setting has no such value, or would do nothing; also a ValueError
    └── OutputError      the result cannot be written to the requested place

Each message is one line: where, what was expected, what was found, what to do.
`patchcore_build.errors` adds the errors of the workshop under the same root.
"""


class PatchCoreError(Exception):
    """The root of all refusals; the command lines turn it into exit code 1."""


class ArtifactError(PatchCoreError):
    """A file of the artifact is missing, altered or of another version."""


class SignatureError(ArtifactError):
    """The given key did not sign the artifact, or the given file is not a key."""


class ImageError(PatchCoreError):
    """An image cannot be read or does not fit the artifact."""


class ImageWarning(UserWarning):
    """An image can be read, but its values suggest a mistake."""


class ProviderError(PatchCoreError):
    """An execution provider or an optional library is not available on this machine."""


class ThresholdError(PatchCoreError):
    """The artifact cannot support a threshold or false-alarm rate."""


class MonitorError(PatchCoreError):
    """A monitor's settings or state file is wrong, or its artifact has too few images."""


class EditError(PatchCoreError):
    """An edit of a memory bank would change nothing, or breaks its guarantee."""


class SettingError(PatchCoreError, ValueError):
    """A setting has no such value, or would do nothing beside the other settings."""


class OutputError(PatchCoreError):
    """The result cannot be written to the requested place."""
