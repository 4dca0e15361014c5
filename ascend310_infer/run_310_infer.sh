#!/bin/bash
# The original's other name for run_infer_cpp.sh, which does the work and takes the same arguments.
exec bash "$(dirname "${BASH_SOURCE[0]}")/run_infer_cpp.sh" "$@"
