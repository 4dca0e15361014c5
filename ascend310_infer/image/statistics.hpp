// An input as a whole -> what its brightness and contrast say against it; the twin of
// `unusual_light` of patchcore_runtime/image/statistics.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "manifest/manifest.hpp"

namespace patchcore {

// What brightness and contrast say against an image, in words and numbers; empty for usual ones.
//   pixels     row-major (height, width, 3), both sides at least 16
std::vector<std::string> UnusualLight(const std::vector<std::uint8_t>& pixels, std::size_t height,
                                      std::size_t width, const Monitoring& monitoring);

}  // namespace patchcore
