"""Every error the runtime raises on purpose.

    PatchCoreError
    ├── ArtifactError    a file of the artifact is missing, altered or of another version
    │   └── SignatureError   it is not signed by the key that was given, or that is no key
    ├── ImageError       an image cannot be read or does not fit the artifact
    ├── ProviderError    onnxruntime or an optional library cannot do here what was asked for
    ├── ThresholdError   a threshold or false-alarm rate the artifact cannot give
    ├── MonitorError     a monitor's settings or state file, or an artifact of too few images
    ├── EditError        an edit of a memory bank would bring nothing, or breaks what it promises
    └── OutputError      the result cannot be written where it was asked for

Messages are one line: where, what was expected, what came, what to do.
`patchcore_build.errors` adds the errors of the workshop under the same root.
"""


class PatchCoreError(Exception):
    """Root of all refusals; the command lines turn it into exit code 1."""


class ArtifactError(PatchCoreError):
    """A file of the artifact is missing, altered or of another version."""


class SignatureError(ArtifactError):
    """The artifact is not signed by the key that was given, or what was given is no key."""


class ImageError(PatchCoreError):
    """An image cannot be read or does not fit the artifact."""


class ProviderError(PatchCoreError):
    """An execution provider of onnxruntime or an optional library is not to be had here."""


class ThresholdError(PatchCoreError):
    """A threshold or false-alarm rate the artifact cannot give."""


class MonitorError(PatchCoreError):
    """A monitor's settings or state file, or an artifact of too few images for one."""


class EditError(PatchCoreError):
    """An edit of a memory bank would bring nothing, or breaks what it promises."""


class OutputError(PatchCoreError):
    """The result cannot be written where it was asked for."""
