// An engine that runs the artifact's graphs: images -> layers, and, if it can, the search.
//
// onnxruntime_backend.cpp serves any CPU, mindspore_backend.cpp Ascend 310/310P (and the CPU where
// MindSpore Lite offers it). The build configuration decides which of them exist.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/exact_graph.hpp"
#include "manifest/manifest.hpp"
#include "tensor.hpp"

namespace patchcore {

enum class Device { kCpu, kAscend };

struct BackendOptions {
  Device device = Device::kCpu;
  std::uint32_t device_id = 0;  // of the Ascend device
  std::size_t threads = 1;      // on the CPU, of all images in work together
  std::size_t workers = 1;      // images (or batches) in work at once; they share the threads
  bool search = true;           // also load the engine's own search, if there is one
  std::string mindir;           // for MindSpore: a converted features.mindir; empty: the artifact's
  std::string index_mindir;     // the same for index.mindir
};

// The part of an artifact that an engine needs: its graphs, and their entries in the manifest.
struct EngineFiles {
  std::filesystem::path manifest, memory_bank;  // manifest.json for messages only
  std::filesystem::path features_onnx, features_mindir, index_onnx, index_mindir;
  bool has_mindir = false;  // whether there is a features.mindir
  Layout layout;            // of a tile
  BankPlaces bank;
  std::size_t mindir_candidates = 0;  // rows that index.mindir lists per patch; 0: no such file
  // Compares a file with SHA256SUMS; throws ArtifactError.
  std::function<void(const std::filesystem::path&)> verify;
};

// Rows that a device lists for each of P patches, S of them, in any order.
struct Candidates {
  std::vector<float> scores;       // (P, S)
  std::vector<std::int32_t> rows;  // (P, S)
};

// One artifact's graphs on one device. Only RunsConcurrently() allows calls from several threads.
class Backend {
 public:
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;

  // Layers of some images.
  //   images     (count, tile_height, tile_width, 3) of the manifest, not owned
  //   returns    (count, C_i, h/s_i, w/s_i) each, shapes checked
  // Throws BackendError: the engine failed, or gave other shapes than the manifest says.
  virtual Layers Features(const std::uint8_t* images, std::size_t count) = 0;

  // Whether several threads may call it at once; otherwise callers take turns.
  virtual bool RunsConcurrently() const { return false; }

  // Whether Nearest() may be called.
  virtual bool HasSearch() const { return false; }

  // The exact search by the engine; what PortableIndex::Nearest gives, within rounding.
  // Throws BackendError: the engine failed or has no search.
  virtual NearestRows Nearest(const Layers& layers);

  // S, the rows that List() gives for each patch; 0: List() must not be called.
  virtual std::size_t ListedRows() const { return 0; }

  // The rows with the largest products for each patch, as index.mindir defines them.
  //   queries    (P, D + 4)
  // Throws BackendError: the engine failed, gave other shapes, or has no such graph.
  virtual Candidates List(const Tensor& queries);

  // The engine and its version, for people.
  virtual std::string Name() const = 0;
};

// The engine for a device: ONNX Runtime for the CPU, else MindSpore.
// Throws BackendError: this program was built without it (the message names the CMake option), or
// the device is not available; ArtifactError: the engine cannot load the artifact's graph.
std::unique_ptr<Backend> MakeBackend(const EngineFiles& files, const BackendOptions& options);

// The engines themselves; each exists only where its CMake option is on.
std::unique_ptr<Backend> MakeOnnxRuntimeBackend(const EngineFiles& files,
                                                const BackendOptions& options);
std::unique_ptr<Backend> MakeMindSporeBackend(const EngineFiles& files,
                                              const BackendOptions& options);

}  // namespace patchcore
