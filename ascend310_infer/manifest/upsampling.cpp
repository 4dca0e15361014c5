#include "manifest/upsampling.hpp"

#include <algorithm>
#include <cmath>

namespace patchcore {

UpsamplingTaps TapsOf(std::size_t target, std::size_t size, std::size_t cells, Upsampling mode) {
  const auto count = static_cast<double>(cells);
  const double centre =
      (static_cast<double>(target) + 0.5) * count / static_cast<double>(size) - 0.5;
  const bool nearest = mode == Upsampling::kNearest;
  const double lower = nearest ? std::nearbyint(centre) : std::floor(centre);
  const auto cell = [&](double place) {
    return static_cast<std::size_t>(std::clamp(place, 0.0, count - 1));
  };
  return {cell(lower), cell(lower + 1), nearest ? 0.0 : centre - lower};
}

}  // namespace patchcore
