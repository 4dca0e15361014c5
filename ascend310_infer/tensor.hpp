// A block of numbers with its shape; what engines give and searches take.
#pragma once

#include <cstdint>
#include <vector>

namespace patchcore {

struct Tensor {
  std::vector<std::int64_t> shape;
  std::vector<float> values;  // row-major, as many as the product of `shape`
};

}  // namespace patchcore
