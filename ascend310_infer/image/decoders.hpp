// What the decoders of single formats share; only decode*.cpp include it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "image/decode.hpp"

namespace patchcore {

// A picture as it is stored, before it is turned: 8-bit RGB and the value of EXIF tag 0x0112.
struct StoredImage {
  Image image;
  int orientation = 1;
};

// Bytes of a whole file -> picture; `where` is its path, for messages. Throw ImageError.
StoredImage DecodeJpeg(const std::vector<std::uint8_t>& bytes, const std::string& where);
StoredImage DecodePng(const std::vector<std::uint8_t>& bytes, const std::string& where);

// Throws ImageError for a size that is refused; call it before anything is decoded.
void CheckSize(const std::string& where, std::size_t width, std::size_t height);

// Throws ImageError: no picture that this program reads, with the decoder's reason.
[[noreturn]] void RefuseUnreadable(const std::string& where, const std::string& reason);

}  // namespace patchcore
