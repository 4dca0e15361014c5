// Any bytes are an EXIF block or refused by ExifError, and any text may be searched for XMP.
#include <cstdint>
#include <string_view>

#include "image/exif.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view block(reinterpret_cast<const char*>(data), size);
  patchcore::XmpOrientation(block);
  try {
    patchcore::ExifOrientation(block);
  } catch (const patchcore::ExifError&) {
  }
  return 0;
}
