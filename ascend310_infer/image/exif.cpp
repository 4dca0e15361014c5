#include "image/exif.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace patchcore {
namespace {

using std::size_t;

constexpr std::uint64_t kOrientationTag = 0x0112;
constexpr size_t kEntryBytes = 12;
constexpr std::string_view kPrefix("Exif\0\0", 6);
constexpr size_t kHeadBytes = 8;

// Size in bytes of one value of each TIFF type; 0 is a type that is skipped.
constexpr std::array<size_t, 17> kTypeBytes = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8};

// Numbers at offsets of a TIFF structure, in its byte order.
class TiffReader {
 public:
  TiffReader(std::string_view bytes, bool little_endian)
      : bytes_(bytes), little_endian_(little_endian) {}

  bool Has(std::uint64_t offset, std::uint64_t length) const {
    return offset <= bytes_.size() && length <= bytes_.size() - offset;
  }

  // Unsigned number of `length` bytes; Has(offset, length) must hold.
  std::uint64_t Number(size_t offset, size_t length) const {
    std::uint64_t value = 0;
    for (size_t i = 0; i < length; ++i) {
      const size_t place = little_endian_ ? offset + length - 1 - i : offset + i;
      value = value << 8 | static_cast<unsigned char>(bytes_[place]);
    }
    return value;
  }

  size_t size() const { return bytes_.size(); }

 private:
  std::string_view bytes_;
  bool little_endian_;
};

// The first of an entry's values, if they are integers.
std::optional<int> FirstInteger(const TiffReader& tiff, size_t offset, std::uint64_t type) {
  constexpr int kNone = std::numeric_limits<int>::max();  // an integer, but no orientation
  switch (type) {
    case 3:    // SHORT
    case 4:    // LONG
    case 13:   // IFD
    case 16:   // LONG8
    case 6:    // SBYTE
    case 8:    // SSHORT
    case 9: {  // SLONG; a negative value is no orientation
      const std::uint64_t value = tiff.Number(offset, kTypeBytes[type]);
      return value < 256 ? static_cast<int>(value) : kNone;
    }
    default:
      return kNone;
  }
}

std::optional<int> ReadDirectory(const TiffReader& tiff, std::uint64_t start) {
  if (!tiff.Has(start, 2)) return std::nullopt;
  const auto directory = static_cast<size_t>(start);
  const size_t count = static_cast<size_t>(tiff.Number(directory, 2));
  std::uint64_t outside = 0;  // bytes of values stored outside their entries
  for (size_t i = 0; i < count; ++i) {
    const size_t entry = directory + 2 + i * kEntryBytes;
    if (!tiff.Has(entry, kEntryBytes)) return std::nullopt;
    const std::uint64_t tag = tiff.Number(entry, 2);
    const std::uint64_t type = tiff.Number(entry + 2, 2);
    const std::uint64_t unit = type < kTypeBytes.size() ? kTypeBytes[type] : 0;
    const std::uint64_t length = tiff.Number(entry + 4, 4) * unit;
    if (length == 0) continue;
    std::uint64_t place = entry + 8;
    if (length > 4) {
      outside += length;
      if (outside > tiff.size()) continue;
      place = tiff.Number(entry + 8, 4);
      if (!tiff.Has(place, length)) return std::nullopt;
    }
    if (tag == kOrientationTag) return FirstInteger(tiff, static_cast<size_t>(place), type);
  }
  return std::nullopt;
}

}  // namespace

std::optional<int> ExifOrientation(std::string_view block) {
  for (int repeat = 0; repeat < 2 && block.substr(0, kPrefix.size()) == kPrefix; ++repeat) {
    block.remove_prefix(kPrefix.size());
  }
  if (block.empty()) return std::nullopt;
  const std::string_view order = block.substr(0, 2);
  const std::string_view version = block.substr(0, 4).substr(order.size());
  constexpr std::string_view kLittle("*\0", 2);
  constexpr std::string_view kBig("\0*", 2);  // some writers combine it with the other byte order
  const bool known = (order == "II" || order == "MM") && (version == kLittle || version == kBig);
  if (!known || block.size() < kHeadBytes) throw ExifError("not a TIFF file in its EXIF block");
  const TiffReader tiff(block, order == "II");
  return ReadDirectory(tiff, tiff.Number(4, 4));
}

std::optional<int> XmpOrientation(std::string_view packet) {
  constexpr std::string_view kName = "tiff:Orientation";
  for (size_t at = packet.find(kName); at != packet.npos; at = packet.find(kName, at + 1)) {
    std::string_view rest = packet.substr(at + kName.size());
    if (rest.substr(0, 2) == "=\"") {
      rest.remove_prefix(2);
    } else if (rest.substr(0, 1) == ">") {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return rest[0] - '0';
  }
  return std::nullopt;
}

}  // namespace patchcore
