// What engines give and searches take, and what searches give.
#pragma once

#include <cstdint>
#include <vector>

namespace patchcore {

// A block of numbers with its shape.
struct Tensor {
  std::vector<std::int64_t> shape;
  std::vector<float> values;  // row-major, as many as the product of `shape`
};

// The layers of some images or of one, (B, C_i, h/s_i, w/s_i) each, in the manifest's order.
using Layers = std::vector<Tensor>;

// The nearest bank row of each patch of one image.
struct NearestRows {
  std::vector<float> distances;    // (h, w), Euclidean, recomputed from differences, all >= 0
  std::vector<std::int64_t> rows;  // (h, w), of equal rows the first
};

}  // namespace patchcore
