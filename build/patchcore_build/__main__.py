"""`python -m patchcore_build` is the command line."""

import sys

from patchcore_build.cli.main import main

sys.exit(main())
