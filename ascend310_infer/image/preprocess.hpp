// 8-bit RGB image -> the network's input: Pillow's antialiased resize, then the centre crop.
//
// The twin of patchcore_runtime/image/preprocess.py, equal to it in every byte.
// artifacts/FORMAT.md defines it, sections Resize and Crop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "image/decode.hpp"
#include "manifest/manifest.hpp"

namespace patchcore {

// Where the input lies on the photograph; all lengths in pixels. The photograph (as shown) was
// resized to resized_*, of which the input is the window with its corner at (top, left).
struct Placement {
  std::size_t photo_height = 0;
  std::size_t photo_width = 0;
  std::size_t resized_height = 0;
  std::size_t resized_width = 0;
  std::size_t top = 0;
  std::size_t left = 0;
};

struct Input {
  std::vector<std::uint8_t> pixels;  // row-major (H, W, 3) of the manifest
  Placement placement;
};

// (height, width) of a photograph after the resize and before the crop; the longer side is rounded
// down.
std::pair<std::size_t, std::size_t> ResizedSize(std::size_t height, std::size_t width,
                                                const Preprocessing& settings);

// Throws ImageError, whose message begins with `where`: the resize of a photograph of that size, or
// an image between its two steps, would be too large (FORMAT.md, section Memory).
void CheckResize(const std::string& where, std::size_t height, std::size_t width,
                 const Preprocessing& settings);

// How a photograph is read for an artifact, from a file or from bytes: with its white level; sizes
// that it cannot resize are refused before a pixel is decoded. The settings must outlive it.
//   note       receives a line about an image that is almost black; may be null
//   reserve    called with the bytes that reading and resizing need, before a pixel is decoded
ReadOptions PhotographOptions(const Preprocessing& settings, std::string* note = nullptr,
                              std::function<void(std::size_t)> reserve = {});

// Upper bounds of the memory of a photograph (FORMAT.md, section Memory): until its input exists,
// and for its map, heat map or mask.
std::size_t ReadingBytes(std::size_t height, std::size_t width, const Preprocessing& settings);
std::size_t DrawingBytes(const Placement& place);

// Resizes and crops a decoded image. Only the pixels inside the crop are computed.
// Throws ImageError: the image is too elongated to resize.
Input FitToInput(const Image& image, const Preprocessing& settings);

}  // namespace patchcore
