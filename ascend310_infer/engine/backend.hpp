// An engine that runs the artifact's graphs: pictures -> layers, and, where it can, the search.
//
// onnxruntime_backend.cpp serves any CPU, mindspore_backend.cpp Ascend 310/310P (and the CPU where
// MindSpore Lite offers it). Which of them exist is decided when the program is configured.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "artifact/folder.hpp"
#include "search/exact.hpp"
#include "tensor.hpp"

namespace patchcore {

enum class Device { kCpu, kAscend };

struct BackendOptions {
  Device device = Device::kCpu;
  std::uint32_t device_id = 0;  // of the Ascend device
  std::size_t threads = 1;      // on the CPU, of all pictures in work together
  std::size_t workers = 1;      // pictures (or batches) in work at once; they share the threads
  bool search = true;           // load the engine's own search, too, where there is one
  std::string mindir;           // for MindSpore: a converted features.mindir; empty: the artifact's
  std::string index_mindir;     // the same for index.mindir
};

// One artifact's graphs on one device. Safe to share between threads only where it says so.
class Backend {
 public:
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;

  // Layers of some pictures.
  //   images     (count, H, W, 3) of the manifest, not owned
  //   returns    layer2 (count, C2, h, w) and layer3 (count, C3, h/2, w/2), shapes checked
  // Throws BackendError: the engine failed, or gave other shapes than the manifest says.
  virtual std::pair<Tensor, Tensor> Features(const std::uint8_t* images, std::size_t count) = 0;

  // Whether several threads may call it at once; else one after the other.
  virtual bool RunsConcurrently() const { return false; }

  // Whether Nearest() may be called.
  virtual bool HasSearch() const { return false; }

  // The exact search by the engine; what PortableIndex::Nearest gives, within rounding.
  // Throws BackendError: the engine failed or has no search.
  virtual NearestRows Nearest(const Tensor& layer2, const Tensor& layer3);

  // The engine and its version, for people.
  virtual std::string Name() const = 0;

  // How the engine's search went so far, for people; empty where there is nothing to say.
  virtual std::string SearchNote() const { return ""; }
};

// The engine for a device: ONNX Runtime for the CPU, else MindSpore.
// Throws BackendError: this program was built without it (says which CMake option brings it), or
// the device is not there; ArtifactError: the engine cannot load the artifact's graph.
std::unique_ptr<Backend> MakeBackend(const Artifact& artifact, const BackendOptions& options);

// The engines themselves; each exists only where its CMake option is on.
std::unique_ptr<Backend> MakeOnnxRuntimeBackend(const Artifact& artifact,
                                                const BackendOptions& options);
std::unique_ptr<Backend> MakeMindSporeBackend(const Artifact& artifact,
                                              const BackendOptions& options);

// The shape that layer2 or layer3 of `count` pictures must have.
std::vector<std::int64_t> BatchShape(const LayerShape& layer, std::size_t count);

// "(1, 256, 40, 40)", for messages.
std::string ShapeText(const std::vector<std::int64_t>& shape);

// What an engine said, in one line of at most 200 bytes.
std::string OneLine(const std::string& text);

// Cores this process may run on (not those the machine has).
std::size_t UsableCores();

}  // namespace patchcore
