#include "capi/pixels.hpp"

#include <array>
#include <string>

#include "capi/patchcore.h"
#include "errors.hpp"

namespace patchcore {
namespace {

struct PixelLayout {
  std::size_t bytes;                 // of one pixel
  std::array<std::size_t, 3> parts;  // where red, green and blue are
};

PixelLayout PixelLayoutOf(int layout) {
  switch (layout) {
    case PATCHCORE_RGB:
      return {3, {0, 1, 2}};
    case PATCHCORE_BGR:
      return {3, {2, 1, 0}};
    case PATCHCORE_GREY:
      return {1, {0, 0, 0}};
    default:
      throw ImageError("layout: expected 0 (RGB), 1 (BGR) or 2 (grey), got " +
                       std::to_string(layout));
  }
}

}  // namespace

Image ImageOf(const Pixels& pixels) {
  const PixelLayout layout = PixelLayoutOf(pixels.layout);
  CheckSize("image", pixels.width, pixels.height);
  if (pixels.stride < pixels.width * layout.bytes) {
    throw ImageError("stride: expected at least " + std::to_string(pixels.width * layout.bytes) +
                     " bytes for a row of " + std::to_string(pixels.width) + " pixels, got " +
                     std::to_string(pixels.stride));
  }
  Image image{pixels.height, pixels.width, {}};
  image.pixels.reserve(pixels.height * pixels.width * 3);
  for (std::size_t y = 0; y < pixels.height; ++y) {
    const std::uint8_t* pixel = pixels.first + y * pixels.stride;
    for (std::size_t x = 0; x < pixels.width; ++x, pixel += layout.bytes) {
      for (const std::size_t part : layout.parts) image.pixels.push_back(pixel[part]);
    }
  }
  return image;
}

}  // namespace patchcore
