"""The C++ runner, if it is built, for the tests that compare it with Python."""

import os
from pathlib import Path

import pytest

from places import ROOT

# `make cpp` builds the first; another build is named by the variable.
BINARY = Path(
    os.environ.get("PATCHCORE_INFER", ROOT / "out" / "host" / "patchcore_infer")
).resolve()
NOT_BUILT = f"{BINARY.name} is not built; `make cpp` builds it"
needs_binary = pytest.mark.skipif(not BINARY.is_file(), reason=NOT_BUILT)
