#include "engine/backend.hpp"

#include "errors.hpp"

namespace patchcore {

NearestRows Backend::Nearest(const Layers&) {
  throw BackendError(Name() +
                     ": expected an engine with a search of its own; use --search portable");
}

Candidates Backend::List(const Tensor&) {
  throw BackendError(Name() + ": expected an engine that runs index.mindir; use --search portable");
}

std::unique_ptr<Backend> MakeBackend(const EngineFiles& files, const BackendOptions& options) {
  if (options.device == Device::kCpu) {
#if defined(PATCHCORE_ONNXRUNTIME)
    return MakeOnnxRuntimeBackend(files, options);
#endif
  }
#if defined(PATCHCORE_MINDSPORE)
  return MakeMindSporeBackend(files, options);
#else
  (void)files;
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

}  // namespace patchcore
