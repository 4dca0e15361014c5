#include "image/png_view.hpp"

#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "image/decoders.hpp"

namespace patchcore {
namespace {

constexpr std::size_t kSignatureBytes = 8;
constexpr std::size_t kFrameBytes = 12;  // length, name and checksum of a chunk
constexpr std::size_t kHeadBytes = 8;
constexpr std::size_t kHeaderBytes = 13;
constexpr std::size_t kColourAt = kSignatureBytes + kHeadBytes + 9;
constexpr std::size_t kColourBytes = 3;  // of an entry of a palette
constexpr std::size_t kMostColourBytes = 768;
constexpr std::size_t kMostMetadata = std::size_t{1} << 20;
constexpr std::uint8_t kEnd[] = {0, 0, 0, 0, 'I', 'E', 'N', 'D', 0xAE, 'B', '`', 0x82};
enum Colour : std::uint8_t { kGrey = 0, kRgb = 2, kPalette = 3 };

struct Chunk {
  const std::uint8_t* start;  // of its length
  std::size_t length;         // of its content

  bool Is(const char* name) const { return std::memcmp(start + 4, name, 4) == 0; }
  bool IsCritical() const { return (start[4] & 0x20) == 0; }
};

bool IsLetter(std::uint8_t letter) {
  return (letter >= 'A' && letter <= 'Z') || (letter >= 'a' && letter <= 'z');
}

class Walk {
 public:
  Walk(const std::vector<std::uint8_t>& bytes, const std::string& where)
      : bytes_(bytes), where_(where) {}

  PngView View() {
    view_.parts.emplace_back(bytes_.data(), kSignatureBytes);
    Chunk chunk{};
    if (!Next(chunk) || !chunk.Is("IHDR") || chunk.length != kHeaderBytes) {
      Broken("its header");
    }
    colour_ = bytes_[kColourAt];
    Add(chunk);
    while (!pixels_ended_ && Next(chunk)) AddBeforeEnd(chunk);
    if (colour_ == kPalette && !has_palette_) Broken("its palette");
    if (!has_pixels_) RefuseUnreadable(where_, "image file is truncated");
    view_.parts.emplace_back(kEnd, sizeof(kEnd));
    return std::move(view_);
  }

 private:
  // The next chunk up to IEND or the end of the file.
  bool Next(Chunk& chunk) {
    if (bytes_.size() - place_ < kFrameBytes) return false;
    chunk.start = bytes_.data() + place_;
    chunk.length = std::size_t{chunk.start[0]} << 24 | std::size_t{chunk.start[1]} << 16 |
                   std::size_t{chunk.start[2]} << 8 | chunk.start[3];
    if (!std::all_of(chunk.start + 4, chunk.start + kHeadBytes, IsLetter)) {
      if (pixels_ended_) return false;
      Broken("the name of a chunk");
    }
    if (chunk.length > bytes_.size() - place_ - kFrameBytes) {
      if (pixels_ended_) return false;
      RefuseUnreadable(where_, "image file is truncated");
    }
    place_ += kFrameBytes + chunk.length;
    return !chunk.Is("IEND");
  }

  void AddBeforeEnd(const Chunk& chunk) {
    if (chunk.Is("IDAT")) {
      has_pixels_ = true;
      Add(chunk);
    } else if (has_pixels_) {
      pixels_ended_ = true;
      AddRest(chunk);
    } else if (chunk.Is("PLTE")) {
      AddPalette(chunk);
    } else if (chunk.Is("tRNS")) {
      AddTransparency(chunk);
    } else if (chunk.IsCritical()) {
      Broken("a chunk out of place");
    } else {
      AddMetadata(chunk);
    }
  }

  // What is missing or damaged behind the pixels costs none of them.
  void AddRest(Chunk chunk) {
    do {
      if (IsMetadata(chunk) && !HasRightSum(chunk)) return;
      AddMetadata(chunk);
    } while (Next(chunk));
  }

  void AddPalette(const Chunk& chunk) {
    const bool fits = chunk.length % kColourBytes == 0 && chunk.length >= kColourBytes &&
                      chunk.length <= kMostColourBytes;
    if (has_palette_ || has_transparency_ || !fits) Broken("its palette");
    has_palette_ = true;
    if (colour_ != kPalette) return;
    colours_ = chunk.length / kColourBytes;
    Add(chunk);
  }

  void AddTransparency(const Chunk& chunk) {
    const bool fits = colour_ == kGrey      ? chunk.length == 2
                      : colour_ == kRgb     ? chunk.length == 6
                      : colour_ == kPalette ? has_palette_ && chunk.length > 0
                                            : true;
    if (has_transparency_ || !fits) Broken("its transparency");
    has_transparency_ = true;
    if (colour_ == kGrey || colour_ == kRgb || chunk.length <= colours_) {
      Add(chunk);
    } else if (colour_ == kPalette) {
      AddCut(chunk);
    }  // other kinds have an alpha channel, which counts
  }

  void AddCut(const Chunk& chunk) {
    CheckSum(chunk);
    auto& own = view_.transparency;
    own.assign(chunk.start, chunk.start + kHeadBytes + colours_);
    own[0] = own[1] = 0;
    own[2] = static_cast<std::uint8_t>(colours_ >> 8);
    own[3] = static_cast<std::uint8_t>(colours_);
    const std::uint32_t cut = Sum(own.data() + 4, 4 + colours_);
    for (int shift = 24; shift >= 0; shift -= 8) {
      own.push_back(static_cast<std::uint8_t>(cut >> shift));
    }
    view_.parts.emplace_back(own.data(), own.size());
  }

  static bool IsMetadata(const Chunk& chunk) {
    const bool known = chunk.Is("eXIf") || chunk.Is("tEXt") || chunk.Is("zTXt") || chunk.Is("iTXt");
    return known && chunk.length <= kMostMetadata;
  }

  void AddMetadata(const Chunk& chunk) {
    if (IsMetadata(chunk)) Add(chunk);
  }

  static std::uint32_t Sum(const std::uint8_t* bytes, std::size_t count) {
    return static_cast<std::uint32_t>(crc32(0, bytes, static_cast<uInt>(count)));
  }

  static bool HasRightSum(const Chunk& chunk) {
    const std::uint8_t* told = chunk.start + kHeadBytes + chunk.length;
    const std::uint32_t expected = std::uint32_t{told[0]} << 24 | std::uint32_t{told[1]} << 16 |
                                   std::uint32_t{told[2]} << 8 | told[3];
    return Sum(chunk.start + 4, 4 + chunk.length) == expected;
  }

  void CheckSum(const Chunk& chunk) const {
    if (HasRightSum(chunk)) return;
    Broken("the checksum of " + std::string(chunk.start + 4, chunk.start + kHeadBytes));
  }

  void Add(const Chunk& chunk) {
    CheckSum(chunk);
    view_.parts.emplace_back(chunk.start, kFrameBytes + chunk.length);
  }

  [[noreturn]] void Broken(const std::string& what) const {
    RefuseUnreadable(where_, "broken PNG file: " + what);
  }

  const std::vector<std::uint8_t>& bytes_;
  const std::string& where_;
  PngView view_;
  std::size_t place_ = kSignatureBytes;
  std::size_t colours_ = 0;
  std::uint8_t colour_ = 0;
  bool has_palette_ = false;
  bool has_transparency_ = false;
  bool has_pixels_ = false;
  bool pixels_ended_ = false;
};

}  // namespace

PngView ViewPng(const std::vector<std::uint8_t>& bytes, const std::string& where) {
  return Walk(bytes, where).View();
}

}  // namespace patchcore
