// Image file -> 8-bit RGB as shown: decode, apply EXIF orientation, reduce to 8-bit RGB.
//
// The twin of patchcore_runtime/image/decode.py, equal to it in every byte. artifacts/FORMAT.md
// defines it, sections Decode, Orient and 8-bit RGB. This program reads PNG and JPEG.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "manifest/manifest.hpp"

namespace patchcore {

inline constexpr std::size_t kMaxPixels = std::size_t{1}
                                          << 26;  // larger images are refused before decoding
inline constexpr std::size_t kMinSidePx = 8;

// 8-bit RGB, row-major (height, width, 3).
struct Image {
  std::size_t height = 0;
  std::size_t width = 0;
  std::vector<std::uint8_t> pixels;
};

// Throws ImageError for a size that is refused; call it before anything is decoded.
void CheckSize(const std::string& where, std::size_t width, std::size_t height);

// What reading depends on, besides the file.
struct ReadOptions {
  std::uint32_t white_level = kWhite16Bits;  // value of white in grey of 16 bits
  // Called with the beginning of a message and the size as shown, before the pixels are decoded;
  // throws ImageError for a size that the caller cannot use.
  std::function<void(const std::string& where, std::size_t height, std::size_t width)> accept;
  std::string* note = nullptr;  // receives a line about an image that is almost black
};

// Reads a PNG or JPEG file; the content decides which of them it is, never the suffix.
// Throws ImageError: unreadable, of another format, truncated, or of a refused size.
Image ReadImage(const std::filesystem::path& path, const ReadOptions& options = {});

// The same from the bytes of a file.
//   where      path of the file, for messages
Image DecodeImage(const std::vector<std::uint8_t>& bytes, const std::string& where,
                  const ReadOptions& options = {});

}  // namespace patchcore
