// Exact nearest-neighbour search on any processor: layers of one image -> nearest distance and bank
// row of each patch; the twin of index.onnx and the reference for every engine.
//
// Bringing a layer to the patch grid is linear, so q·m = Σ U_i(q_i·m_i): a layer's products are
// taken on its own smaller grid and upsampled as products, which is exact. The nearest row
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
  PortableIndex(const MemoryBank& bank, const Layout& layout, std::size_t threads);

  // Finds the nearest row of every patch.
  //   layers     (1, C_i, h/s_i, w/s_i) each
  // Throws std::invalid_argument when a shape is another one.
  NearestRows Nearest(const Layers& layers) const;

  // Whole patch vectors, (P, D), of the same layers; distances are computed from them.
  std::vector<float> PatchVectors(const Layers& layers) const;

  // From one patch vector (D,) to one row, computed from the difference.
  float Distance(const float* patch, std::size_t row) const;

 private:
  // Two cells of a coarse grid that a cell of the patch grid lies between.
  struct Taps {
    std::size_t lower, upper;
    float lower_weight, upper_weight;
  };
  // Neighbouring layers of one stride, whose products are summed on their own grid.
  struct Level {
    std::size_t first, last;                  // layers
    LayerShape shape;                         // of the first
    std::vector<Taps> row_taps, column_taps;  // (h,) and (w,); empty for stride 1
  };
  struct Best {
    std::vector<float> scores;  // (P padded)
    std::vector<std::int32_t> rows;
  };

  // The taps of each of `size` patches along a side with that many coarse cells.
  static std::vector<Taps> MakeTaps(std::size_t size, std::size_t cells, Upsampling mode);
  void CheckShapes(const Layers& layers) const;
  void SearchRows(const std::vector<std::vector<float>>& panels, std::size_t first,
                  std::size_t last, Best& best) const;
  void AddLevel(const Level& level, const std::vector<std::vector<float>>& panels,
                std::size_t start, std::size_t count, std::vector<float>& products) const;
  template <bool adds>
  void Upsample(const Level& level, const float* coarse, float bias, float* wide,
                float* fine) const;

  MemoryBank bank_;
  Layout layout_;
  std::size_t threads_;
  std::vector<Level> levels_;  // strides rise
};

}  // namespace patchcore
