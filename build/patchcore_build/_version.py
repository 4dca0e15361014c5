"""The version: both packages are released together, and the runtime's is the source."""

from patchcore_runtime._version import __version__

__all__ = ["__version__"]
