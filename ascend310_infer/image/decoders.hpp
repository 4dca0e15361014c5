// Declarations that the decoders of single formats share; only decode*.cpp include this file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "image/decode.hpp"

namespace patchcore {

// An image as stored, before the EXIF rotation: 8-bit RGB and the value of EXIF tag 0x0112.
struct StoredImage {
  Image image;
  int orientation = 1;
};

// Bytes of a whole file -> image; `where` is its path, for messages. Throw ImageError.
StoredImage DecodeJpeg(const std::vector<std::uint8_t>& bytes, const std::string& where,
                       const ReadOptions& options);
StoredImage DecodePng(const std::vector<std::uint8_t>& bytes, const std::string& where,
                      const ReadOptions& options);

// Whether an orientation swaps the sides.
inline bool IsSideways(int orientation) { return orientation >= 5 && orientation <= 8; }

// Throws ImageError: the file is no image that this program reads; gives the decoder's reason.
[[noreturn]] void RefuseUnreadable(const std::string& where, const std::string& reason);

}  // namespace patchcore
