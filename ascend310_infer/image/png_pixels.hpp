// Samples of a PNG -> 8-bit RGB, as FORMAT.md's section 8-bit RGB defines it; without libpng.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "image/decode.hpp"

namespace patchcore {

// PNG's colour types.
enum class PngKind { kGrey = 0, kRgb = 2, kPalette = 3, kGreyAlpha = 4, kRgbAlpha = 6 };

struct PngSamples {
  PngKind kind = PngKind::kGrey;
  int depth = 8;                     // bits as stored: 1, 2, 4, 8 or 16
  std::vector<std::uint8_t> values;  // row-major (H, W, channels); 1 to 8 bits one byte each,
                                     // unscaled; 16 bits two bytes, the high one first
  std::array<std::array<std::uint8_t, 4>, 256> palette{};   // RGBA
  std::optional<std::array<std::uint16_t, 3>> transparent;  // tRNS of kGrey (thrice) and kRgb
};

// (H, W, 3), transparency flattened on black; an image that is transparent everywhere counts as
// opaque. Throws ImageError: values beyond the white level, or colours of 16 bits where there is
// one.
std::vector<std::uint8_t> ToRgb(PngSamples samples, const std::string& where,
                                const ReadOptions& options);

}  // namespace patchcore
