#!/bin/bash
# Scores a category's test images with patchcore_infer and writes the AUROC values.
#
# The arguments of the original model's script; the artifact stands in for its MindIR file, its
# memory bank and its Python steps. Writes into the current folder:
#   acc_<CATEGORY>.log      img_auc and pixel_auc
#   infer_<CATEGORY>.jsonl  one JSON line per image
#   time_<CATEGORY>.log     what each stage of each image took
#   maps_<CATEGORY>/        heat maps and 16-bit maps
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  cat >&2 <<'TEXT'
Usage: bash run_infer_cpp.sh [MINDIR_PATH] [DATASET_PATH] [NEED_PREPROCESS] [CATEGORY] \
         [DEVICE_TYPE] [DEVICE_ID]
  MINDIR_PATH      features.mindir of an artifact, or the artifact's folder; a converted file
                   elsewhere needs the variable PATCHCORE_ARTIFACT with the artifact's folder
  DATASET_PATH     folder that holds CATEGORY/test/good and the defects beside it (MVTec AD)
  NEED_PREPROCESS  y scores the images; n takes the scores and maps of the run before
  CATEGORY         name of the subfolder, for instance bottle
  DEVICE_TYPE      Ascend or CPU (GPU: the Python runtime, patchcore-runtime --providers)
  DEVICE_ID        optional; else the variable device_id, else 0
Variables: PATCHCORE_INFER names the program (else it is built into out/), PYTHON a Python with
patchcore-build for pixel_auc (else .venv/bin/python3 or python3).
TEXT
  exit 1
}

refuse() {
  echo "run_infer_cpp.sh: $*" >&2
  exit 1
}

if [ $# -lt 5 ] || [ $# -gt 6 ]; then usage; fi
model=$(realpath -m -- "$1")
dataset=$(realpath -m -- "$2")
need_preprocess=$3
category=$4
device_type=$5
device_id=${6:-${device_id:-0}}

case $need_preprocess in y | n) ;; *) refuse "NEED_PREPROCESS: expected y or n, got '$3'" ;; esac
case $device_type in
  Ascend) device=ascend preset=ascend ;;
  CPU) device=cpu preset=host ;;
  GPU) refuse "DEVICE_TYPE: GPU is served by the Python runtime; expected Ascend or CPU" ;;
  *) refuse "DEVICE_TYPE: expected Ascend or CPU, got '$5'" ;;
esac
case $device_id in '' | *[!0-9]*) refuse "DEVICE_ID: expected a number, got '$device_id'" ;; esac
case $category in '' | */* | .*) refuse "CATEGORY: expected the name of a folder, got '$4'" ;; esac
test_images=$dataset/$category/test
[ -d "$test_images" ] ||
  refuse "$test_images: no such folder; expected DATASET_PATH/CATEGORY/test"
[ -e "$model" ] || refuse "$model: no such file; expected an artifact's features.mindir"

artifact=${PATCHCORE_ARTIFACT:-$model}
[ -d "$artifact" ] || artifact=$(dirname "$model")
[ -f "$artifact/manifest.json" ] ||
  refuse "$artifact: expected an artifact (manifest.json); set PATCHCORE_ARTIFACT to its folder"
options=(--device "$device" --device-id "$device_id")
if [ -f "$model" ] && [ "$model" != "$(realpath -m -- "$artifact/features.mindir")" ]; then
  options+=(--mindir "$model")
fi

# MindSpore Lite's libraries, where it is installed.
if [ -n "${MS_LITE_HOME:-}" ]; then
  lite=$MS_LITE_HOME/runtime
  libraries=$lite/lib:$lite/third_party/glog:$lite/third_party/dnnl:$MS_LITE_HOME/tools/converter/lib
  export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi

program=${PATCHCORE_INFER:-$here/../out/$preset/patchcore_infer}
if [ ! -x "$program" ]; then
  [ -z "${PATCHCORE_INFER:-}" ] ||
    refuse "$program: no such program; unset PATCHCORE_INFER to build it"
  if [ "$preset" = ascend ] && [ ! -f "${MS_LITE_HOME:-}/runtime/include/api/model.h" ]; then
    refuse "DEVICE_TYPE: Ascend needs MindSpore Lite, but MS_LITE_HOME='${MS_LITE_HOME:-}' holds no" \
      "runtime/include/api/model.h; install it (README.md, Ascend guide) or use CPU"
  fi
  echo "building $preset (build_$category.log)"
  (cd "$here" &&
    cmake --preset "$preset" ${MS_LITE_HOME:+-DMINDSPORE_ROOT="$MS_LITE_HOME/runtime"} &&
    cmake --build --preset "$preset") >"build_$category.log" 2>&1 ||
    refuse "compile app code failed: $(grep -m 1 -i error "build_$category.log" ||
      tail -n 1 "build_$category.log"); see build_$category.log"
fi

echo "artifact: $artifact"
echo "dataset path: $dataset"
echo "need preprocess: $need_preprocess"
echo "category: $category"
echo "device: $device $device_id"

scores=infer_$category.jsonl
if [ "$need_preprocess" = y ]; then
  "$program" "$artifact" "$test_images" "${options[@]}" --maps "maps_$category" --timings \
    >"$scores" 2>"time_$category.log" ||
    refuse "execute inference failed: $(grep -v '^timings: ' "time_$category.log" | tail -n 1)"
else
  [ -s "$scores" ] || refuse "$scores: no scores of a run before; use NEED_PREPROCESS y"
fi

python=${PYTHON:-$here/../.venv/bin/python3}
[ -x "$python" ] || python=$(command -v python3 || true)
if [ -n "$python" ] && "$python" -c 'import patchcore_build' 2>/dev/null; then
  "$python" -m patchcore_build.evaluation.cpp_maps "$artifact" "$dataset" "$category" "$scores" "maps_$category" \
    >"acc_$category.log" || refuse "calculate accuracy failed; see acc_$category.log"
else
  # The share of (good, defect) pairs in the right order; a tie counts one half.
  awk -v good="$test_images/good/" '
    {
      match($0, /"score": [^,]*/)
      score = substr($0, RSTART + 9, RLENGTH - 9) + 0
      if (index($0, "{\"image\": \"" good) == 1)
        normal[++n] = score
      else
        defect[++d] = score
    }
    END {
      if (n == 0 || d == 0) { print "img_auc: needs good images and defects"; exit 1 }
      for (i = 1; i <= n; i++)
        for (j = 1; j <= d; j++)
          right += (defect[j] > normal[i]) + (defect[j] == normal[i]) / 2
      printf "img_auc: %.6f\npixel_auc: not measured (needs a Python with patchcore-build)\n", \
        right / n / d
    }' "$scores" >"acc_$category.log" || refuse "calculate accuracy failed; see acc_$category.log"
fi
cat "acc_$category.log"
