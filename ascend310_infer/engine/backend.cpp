#include "engine/backend.hpp"

#include <sched.h>

#include <algorithm>
#include <sstream>
#include <thread>

#include "errors.hpp"
#include "files/strict_json.hpp"

namespace patchcore {

NearestRows Backend::Nearest(const Tensor&, const Tensor&) {
  throw BackendError(Name() +
                     ": expected an engine with a search of its own; use --search portable");
}

std::unique_ptr<Backend> MakeBackend(const Artifact& artifact, const BackendOptions& options) {
  if (options.device == Device::kCpu) {
#if defined(PATCHCORE_ONNXRUNTIME)
    return MakeOnnxRuntimeBackend(artifact, options);
#endif
  }
#if defined(PATCHCORE_MINDSPORE)
  return MakeMindSporeBackend(artifact, options);
#else
  (void)artifact;
  if (options.device == Device::kAscend) {
    throw BackendError(
        "--device ascend: this program was built without MindSpore; configure it with "
        "-DPATCHCORE_MINDSPORE=ON -DMINDSPORE_ROOT=DIR (cmake --preset ascend)");
  }
  throw BackendError(
      "--device cpu: this program was built without ONNX Runtime; configure it with "
      "-DPATCHCORE_ONNXRUNTIME=ON (cmake --preset host)");
#endif
}

std::vector<std::int64_t> BatchShape(const LayerShape& layer, std::size_t count) {
  const auto side = [](std::size_t value) { return static_cast<std::int64_t>(value); };
  return {side(count), side(layer.channels), side(layer.height), side(layer.width)};
}

std::string ShapeText(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t side : shape) {
    text += (text.empty() ? "(" : ", ") + std::to_string(side);
  }
  return text.empty() ? "()" : text + ")";
}

std::string OneLine(const std::string& text) {
  std::istringstream words(text);
  std::string line;
  for (std::string word; words >> word;) line += (line.empty() ? "" : " ") + word;
  return Printable(line, 200);
}

std::size_t UsableCores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) {
    return static_cast<std::size_t>(std::max(1, CPU_COUNT(&cores)));
  }
  return std::max(1U, std::thread::hardware_concurrency());
}

}  // namespace patchcore
