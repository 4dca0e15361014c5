// Pixels in the memory of another program -> 8-bit RGB.
#pragma once

#include <cstddef>
#include <cstdint>

#include "image/decode.hpp"

namespace patchcore {

// Not owned; see patchcore_score_pixels.
struct Pixels {
  const std::uint8_t* first = nullptr;
  std::size_t height = 0;
  std::size_t width = 0;
  std::size_t stride = 0;  // bytes from one row to the next
  int layout = 0;          // of patchcore_layout, or a value that it does not have
};

// Throws ImageError: a refused size, a stride below one row, or no such layout.
Image ImageOf(const Pixels& pixels);

}  // namespace patchcore
