"""`python -m patchcore_runtime` is the command line."""

import sys

from patchcore_runtime.cli.main import main

sys.exit(main())
