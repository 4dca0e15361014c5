// Metadata of an image -> which way up it is shown (EXIF tag 0x0112).
//
// It reads damaged and unusual blocks as Pillow does, so that both runtimes rotate alike.
#pragma once

#include <optional>
#include <stdexcept>
#include <string_view>

namespace patchcore {

// The block does not begin like a TIFF structure, so its content is not used.
class ExifError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The orientation an EXIF block holds, if any, whatever its value.
//   block      TIFF structure, with or without `Exif\0\0` before it
// Throws ExifError.
std::optional<int> ExifOrientation(std::string_view block);

// The orientation an XMP packet holds, if any; it counts only where EXIF has none.
std::optional<int> XmpOrientation(std::string_view packet);

}  // namespace patchcore
