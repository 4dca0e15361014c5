#!/bin/bash
# Compiles engine/mindspore_backend.cpp against real MindSpore SDKs, with both C++ ABIs, and links
# patchcore_infer where the SDK brings libmindspore.so. Opt-in: the wheels have 700 MB and more.
#
#   check_mindspore_sdk.sh SDK...     a MindSpore wheel (2.0.0 links, 2.7.0 has headers only), or a
#                                     folder that holds include/api/model.h
set -euo pipefail

sources=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
[ $# -gt 0 ] || { echo "usage: check_mindspore_sdk.sh SDK..." >&2; exit 2; }

for sdk in "$@"; do
  root=$sdk
  if [ -f "$sdk" ]; then
    root=$scratch/$(basename "$sdk")/mindspore
    mkdir -p "$root"
    unzip -q "$sdk" 'mindspore/include/*' 'mindspore/lib/*' -d "$(dirname "$root")"
  fi
  for abi in 0 1; do
    g++ -std=c++17 -O1 -Wall -Wextra -Wpedantic -Wconversion -Werror -isystem "$root" -I "$sources" \
      "-D_GLIBCXX_USE_CXX11_ABI=$abi" -c "$sources/engine/mindspore_backend.cpp" -o "$scratch/backend.o"
    echo "$(basename "$sdk"): compiled, C++ ABI $abi"
  done
  if [ -f "$root/lib/libmindspore.so" ]; then
    cmake -S "$sources" -B "$scratch/build" -DPATCHCORE_ONNXRUNTIME=OFF -DPATCHCORE_MINDSPORE=ON \
      -DPATCHCORE_TESTS=OFF -DMINDSPORE_ROOT="$(realpath "$root")" >/dev/null
    cmake --build "$scratch/build" >/dev/null
    echo "$(basename "$sdk"): linked"
    rm -rf "$scratch/build"
  fi
done
