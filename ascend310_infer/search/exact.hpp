// Exact nearest-neighbour search on any processor: layer2, layer3 of one image -> nearest
// distance and bank row of each patch; the twin of index.onnx and the reference for every engine.
//
// Bringing layer3 to layer2's grid is linear, so q·m = q2·m2 + U(q3·m3): layer3's products are
// taken on its own quarter-size grid and upsampled as products, which is exact. The nearest row
// maximises q·m - |m|²/2. Rows go in blocks that stay in cache, each block's products meet a
// running maximum at once, and no (P, M) matrix ever exists.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bank/memory_bank.hpp"
#include "tensor.hpp"

namespace patchcore {

// One artifact's bank, ready to be searched; safe to share between threads.
class PortableIndex {
 public:
  // The bank's sections stay where they are and must outlive this object.
  //   threads    1 or more; the result does not depend on it
  PortableIndex(const MemoryBank& bank, const Features& features, std::size_t threads);

  // Finds the nearest row of every patch.
  //   layer2     (1, C2, h, w)
  //   layer3     (1, C3, h/2, w/2)
  // Throws std::invalid_argument when a shape is another one.
  NearestRows Nearest(const Tensor& layer2, const Tensor& layer3) const;

  // Whole patch vectors, (P, D), of the same layers; distances are computed from them.
  std::vector<float> PatchVectors(const Tensor& layer2, const Tensor& layer3) const;

  // From one patch vector (D,) to one row, computed from the difference.
  float Distance(const float* patch, std::size_t row) const;

 private:
  // Two cells of layer3's grid that a cell of layer2's grid lies between.
  struct Taps {
    std::size_t lower, upper;
    float lower_weight, upper_weight;
  };
  struct Best {
    std::vector<float> scores;  // (P padded)
    std::vector<std::int32_t> rows;
  };

  std::vector<Taps> MakeTaps(std::size_t cells, bool bilinear) const;
  void SearchRows(const std::vector<float>& panels2, const std::vector<float>& panels3,
                  std::size_t first, std::size_t last, Best& best) const;
  void Upsample(const float* coarse, float bias, float* wide, float* fine) const;

  MemoryBank bank_;
  std::size_t height_, width_;  // h, w
  std::size_t threads_;
  std::vector<Taps> row_taps_, column_taps_;
};

}  // namespace patchcore
