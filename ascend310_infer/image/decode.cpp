#include "image/decode.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "errors.hpp"
#include "files/names.hpp"
#include "files/regular.hpp"
#include "image/decoders.hpp"
#include "messages.hpp"

namespace patchcore {
namespace {

namespace fs = std::filesystem;

// Far above any file of 2^26 pixels, and still no reason to run out of memory.
constexpr std::uintmax_t kMaxFileBytes = std::uintmax_t{1} << 30;
constexpr std::size_t kReasonLength = 120;

using Signature = std::string_view;

constexpr Signature kPng("\x89PNG\r\n\x1a\n", 8);
constexpr Signature kJpeg("\xFF\xD8\xFF", 3);
// Formats that the Python runtime reads and this program does not.
constexpr std::array<std::pair<Signature, const char*>, 4> kOthers = {{
    {Signature("BM", 2), "BMP"},
    {Signature("II*\0", 4), "TIFF"},
    {Signature("MM\0*", 4), "TIFF"},
    {Signature("RIFF", 4), "WEBP"},
}};

bool StartsWith(const std::vector<std::uint8_t>& bytes, Signature signature) {
  return bytes.size() >= signature.size() &&
         std::memcmp(bytes.data(), signature.data(), signature.size()) == 0;
}

StoredImage DecodeStored(const std::vector<std::uint8_t>& bytes, const std::string& where,
                         const ReadOptions& options) {
  if (StartsWith(bytes, kPng)) return DecodePng(bytes, where, options);
  if (StartsWith(bytes, kJpeg)) return DecodeJpeg(bytes, where, options);
  for (const auto& [signature, name] : kOthers) {
    if (StartsWith(bytes, signature)) {
      throw ImageError(where + ": " + name +
                       ", but this program reads PNG and JPEG; convert it or use "
                       "patchcore-runtime");
    }
  }
  RefuseUnreadable(where, "cannot identify image file");
}

// Turns the stored array as the table of FORMAT.md, section Orient, says; O(pixels).
Image Oriented(Image stored, int orientation) {
  if (orientation < 2 || orientation > 8) return stored;
  const bool transpose = orientation >= 5;
  const bool flip_rows =
      orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  const bool flip_columns =
      orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
  Image shown;
  shown.height = transpose ? stored.width : stored.height;
  shown.width = transpose ? stored.height : stored.width;
  shown.pixels.resize(stored.pixels.size());
  std::uint8_t* target = shown.pixels.data();
  for (std::size_t row = 0; row < shown.height; ++row) {
    const std::size_t y = flip_rows ? shown.height - 1 - row : row;
    for (std::size_t column = 0; column < shown.width; ++column, target += 3) {
      const std::size_t x = flip_columns ? shown.width - 1 - column : column;
      const std::size_t source = transpose ? x * stored.width + y : y * stored.width + x;
      std::memcpy(target, stored.pixels.data() + source * 3, 3);
    }
  }
  return shown;
}

}  // namespace

Image ReadImage(const fs::path& path, const ReadOptions& options) {
  const std::string where = Shown(path.string());
  std::vector<std::uint8_t> bytes;
  try {
    RegularFile file(path, kMaxFileBytes);
    bytes.resize(static_cast<std::size_t>(file.size()));
    bytes.resize(file.Read(bytes.data(), bytes.size()));
  } catch (const MissingFileError&) {
    throw ImageError(where + ": no such file");
  } catch (const FileError& error) {
    RefuseUnreadable(where, error.what());
  }
  return DecodeImage(bytes, where, options);
}

Image DecodeImage(const std::vector<std::uint8_t>& bytes, const std::string& where,
                  const ReadOptions& options) {
  StoredImage stored = DecodeStored(bytes, where, options);
  return Oriented(std::move(stored.image), stored.orientation);
}

void CheckSize(const std::string& where, std::size_t width, std::size_t height) {
  const std::string got = ", got " + std::to_string(width) + " x " + std::to_string(height);
  if (width != 0 && height > kMaxPixels / width) {
    throw ImageError(where + ": expected at most " + std::to_string(kMaxPixels) + " pixels" + got +
                     "; scale it down or cut it into tiles");
  }
  if (std::min(width, height) < kMinSidePx) {
    throw ImageError(where + ": expected at least " + std::to_string(kMinSidePx) + " x " +
                     std::to_string(kMinSidePx) + " px" + got);
  }
}

void RefuseUnreadable(const std::string& where, const std::string& reason) {
  throw ImageError(where + ": not a readable image (" + Printable(reason, kReasonLength) +
                   "); expected PNG, JPEG");
}

}  // namespace patchcore
