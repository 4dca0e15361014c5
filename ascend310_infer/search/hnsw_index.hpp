// Approximate nearest-neighbour search by a graph: index.hnsw, walked by hnswlib's headers; the
// twin of patchcore_runtime/search/hnsw_index.py. Malkov & Yashunin 2018 (arXiv:1603.09320).
#pragma once

#include <cstddef>
#include <memory>

#include "artifact/folder.hpp"
#include "search/exact.hpp"
#include "tensor.hpp"

namespace patchcore {

// The graph of one artifact; safe to share between threads.
class HnswIndex {
 public:
  HnswIndex() = default;
  HnswIndex(const HnswIndex&) = delete;
  HnswIndex& operator=(const HnswIndex&) = delete;
  virtual ~HnswIndex() = default;

  // Finds a near row of every patch, nearly always the nearest; otherwise as PortableIndex.
  //   layers     (1, C_i, h/s_i, w/s_i) each
  // Throws std::invalid_argument when a shape is another one.
  virtual NearestRows Nearest(const Layers& layers) const = 0;
};

// Checks index.hnsw and loads it.
//   threads    1 or more; the result does not depend on it
// Throws ArtifactError: the file is damaged; BackendError: this program was built without hnswlib.
std::unique_ptr<HnswIndex> OpenHnswIndex(const Artifact& artifact, std::size_t threads);

}  // namespace patchcore
