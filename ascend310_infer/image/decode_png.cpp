// PNG by libpng without any of its conversions; FORMAT.md's own are in png_pixels.cpp.
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "image/decoders.hpp"
#include "image/exif.hpp"
#include "image/png_pixels.hpp"
#include "image/png_view.hpp"

namespace patchcore {
namespace {

constexpr std::size_t kHeaderEnd = 33;  // signature and IHDR
constexpr std::size_t kIhdrAt = 12;
constexpr std::size_t kWidthAt = 16;  // width and height in IHDR, big-endian

// zlib's format cannot expand more than 1032-fold, so a larger promise is refused unallocated.
constexpr std::size_t kMaxExpansion = 1040;

// Of a text after decompression, as in Python.
constexpr png_alloc_size_t kMostTextBytes = png_alloc_size_t{1} << 20;

// Chunks whose content matters here; all others are only checked for damage.
constexpr png_byte kKept[] = "tRNS\0tEXt\0zTXt\0iTXt";
constexpr int kKeptCount = 4;
// libpng drops an eXIf chunk that it finds invalid; an unknown chunk arrives unchanged.
constexpr png_byte kExif[] = "eXIf";
constexpr std::string_view kExifPrefix("Exif\0\0", 6);

struct Source {
  PngView view;
  std::size_t part = 0;
  std::size_t place = 0;  // in the part
};

// The place that libpng's error function jumps to, and its message.
struct ErrorHandler {
  std::jmp_buf jump;
  char message[160];
};

[[noreturn]] void FailDecoding(png_structp png, png_const_charp message) {
  auto* handler = static_cast<ErrorHandler*>(png_get_error_ptr(png));
  std::snprintf(handler->message, sizeof(handler->message), "%s", message);
  std::longjmp(handler->jump, 1);
}

void IgnoreWarning(png_structp, png_const_charp) {}

void ReadBytes(png_structp png, png_bytep target, std::size_t length) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  while (length > 0) {
    if (source->part == source->view.parts.size()) png_error(png, "image file is truncated");
    const auto& [bytes, size] = source->view.parts[source->part];
    const std::size_t count = std::min(length, size - source->place);
    std::memcpy(target, bytes + source->place, count);
    target += count;
    length -= count;
    source->place += count;
    if (source->place == size) {
      ++source->part;
      source->place = 0;
    }
  }
}

std::uint32_t BigEndian(const std::uint8_t* bytes) {
  return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 |
         std::uint32_t{bytes[2]} << 8 | bytes[3];
}

int HexDigit(char letter) {
  if (letter >= '0' && letter <= '9') return letter - '0';
  if (letter >= 'a' && letter <= 'f') return letter - 'a' + 10;
  return letter >= 'A' && letter <= 'F' ? letter - 'A' + 10 : -1;
}

// `\nexif\n   length\nhexadecimal digits in lines` -> bytes.
std::string BytesOfProfile(std::string_view profile) {
  for (int line = 0; line < 3; ++line) {
    const std::size_t end = profile.find('\n');
    profile.remove_prefix(end == profile.npos ? profile.size() : end + 1);
  }
  std::string bytes;
  int high = -1;
  for (const char letter : profile) {
    const int digit = HexDigit(letter);
    if (digit < 0) {
      if (letter == '\n' || letter == '\r' || letter == ' ') continue;
      throw ExifError("non-hexadecimal number in its EXIF profile");
    }
    if (high >= 0) bytes += static_cast<char>(high * 16 + digit);
    high = high >= 0 ? -1 : digit;
  }
  return bytes;
}

// One decompression; libpng's memory is freed at the end of its scope.
class Decoder {
 public:
  Decoder(const std::vector<std::uint8_t>& bytes, const std::string& where,
          const ReadOptions& options)
      : where_(where), options_(options), bytes_(bytes) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &handler_, FailDecoding, IgnoreWarning);
    info_ = png_ != nullptr ? png_create_info_struct(png_) : nullptr;
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      RefuseUnreadable(where_, "libpng does not start");
    }
  }
  ~Decoder() { png_destroy_read_struct(&png_, &info_, nullptr); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  StoredImage Decode() {
    const std::size_t file_bytes = bytes_.size();
    ReadHeader();
    AcceptSize();
    if (packed_row_bytes_ > file_bytes * kMaxExpansion / height_) {
      RefuseUnreadable(where_, "image file is truncated");
    }
    const std::size_t row_bytes = png_get_rowbytes(png_, info_);
    samples_.values.resize(row_bytes * height_);
    rows_.resize(height_);
    for (std::size_t y = 0; y < height_; ++y) rows_[y] = samples_.values.data() + y * row_bytes;
    Guarded([&] { png_read_image(png_, rows_.data()); });
    ReadEnd();
    ReadColours();
    const int orientation = Orientation();
    return {{height_, width_, ToRgb(std::move(samples_), where_, options_)}, orientation};
  }

 private:
  // Runs calls into libpng and turns its errors into ImageError. No frame between here and libpng
  // may own anything, because the jump back skips destructors.
  template <typename Calls>
  void Guarded(Calls calls) {
    if (setjmp(handler_.jump) != 0) RefuseUnreadable(where_, handler_.message);
    calls();
  }

  void ReadHeader() {
    CheckFirstChunk();
    source_.view = ViewPng(bytes_, where_);
    Guarded([&] {
      png_set_read_fn(png_, &source_, ReadBytes);
      png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);     // CheckSize has the limits
      png_set_crc_action(png_, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);  // ViewPng checks
      png_set_benign_errors(png_, 1);
      png_set_chunk_malloc_max(png_, kMostTextBytes);
      png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
      png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_AS_DEFAULT, kKept, kKeptCount);
      png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_ALWAYS, kExif, 1);
      png_read_info(png_, info_);
      samples_.kind = static_cast<PngKind>(png_get_color_type(png_, info_));
      samples_.depth = png_get_bit_depth(png_, info_);
      packed_row_bytes_ = png_get_rowbytes(png_, info_);
      png_set_packing(png_);  // 1, 2 and 4 bits: one byte each, unscaled
      png_set_interlace_handling(png_);
      png_read_update_info(png_, info_);
    });
    width_ = png_get_image_width(png_, info_);
    height_ = png_get_image_height(png_, info_);
  }

  // The size decides before libpng sees the file, and reads the same as in Python.
  void CheckFirstChunk() const {
    constexpr char kIhdr[] = "IHDR";
    if (bytes_.size() < kHeaderEnd || std::memcmp(&bytes_[kIhdrAt], kIhdr, 4) != 0) {
      RefuseUnreadable(where_, "broken PNG file: its header");
    }
    const std::uint32_t width = BigEndian(&bytes_[kWidthAt]);
    const std::uint32_t height = BigEndian(&bytes_[kWidthAt + 4]);
    CheckSize(where_, width, height);
  }

  // Asks the caller about the size as shown. Text chunks do not count here, as in Python: they
  // may follow the pixels.
  void AcceptSize() const {
    if (!options_.accept) return;
    const bool sideways = ExifChunk().has_value() && IsSideways(Orientation());
    options_.accept(where_, sideways ? width_ : height_, sideways ? height_ : width_);
  }

  // Metadata may follow the pixels. What is missing or damaged behind them costs no pixel.
  void ReadEnd() {
    if (setjmp(handler_.jump) == 0) png_read_end(png_, info_);
  }

  // PLTE and tRNS, the latter of whichever kind.
  void ReadColours() {
    png_colorp colours = nullptr;
    int count = 0;
    png_get_PLTE(png_, info_, &colours, &count);
    samples_.palette.fill({0, 0, 0, 255});  // what PLTE lacks is black
    for (int i = 0; i < count; ++i) {
      const png_color& entry = colours[i];
      samples_.palette.at(static_cast<std::size_t>(i)) = {entry.red, entry.green, entry.blue, 255};
    }
    png_bytep alphas = nullptr;
    png_color_16p colour = nullptr;
    count = 0;
    if ((png_get_tRNS(png_, info_, &alphas, &count, &colour) & PNG_INFO_tRNS) == 0) return;
    if (samples_.kind == PngKind::kPalette) {
      for (int i = 0; i < count; ++i) {
        samples_.palette.at(static_cast<std::size_t>(i))[3] = alphas[i];
      }
    } else if (samples_.kind == PngKind::kGrey) {
      samples_.transparent = {colour->gray, colour->gray, colour->gray};
    } else if (samples_.kind == PngKind::kRgb) {
      samples_.transparent = {colour->red, colour->green, colour->blue};
    }
  }

  // The last text chunk of that name, compressed or not.
  std::optional<std::string_view> Text(std::string_view name) const {
    png_textp texts = nullptr;
    int count = 0;
    png_get_text(png_, info_, &texts, &count);
    std::optional<std::string_view> found;
    for (int i = 0; i < count; ++i) {
      const png_text& text = texts[i];
      const std::size_t length = std::max(text.text_length, text.itxt_length);
      if (name == text.key && text.text != nullptr) found = std::string_view(text.text, length);
    }
    return found;
  }

  // The last eXIf chunk, with the prefix that it has in JPEG.
  std::optional<std::string> ExifChunk() const {
    png_unknown_chunkp chunks = nullptr;
    const int count = png_get_unknown_chunks(png_, info_, &chunks);
    if (count < 1) return std::nullopt;
    const png_unknown_chunk& last = chunks[count - 1];
    return std::string(kExifPrefix).append(reinterpret_cast<const char*>(last.data), last.size);
  }

  // From eXIf, or the text chunk in which ImageMagick kept it before eXIf was defined, or XMP.
  int Orientation() const {
    std::optional<int> orientation;
    try {
      if (const auto block = ExifChunk()) {
        orientation = ExifOrientation(*block);
      } else if (const auto profile = Text("Raw profile type exif")) {
        orientation = ExifOrientation(BytesOfProfile(*profile));
      }
    } catch (const ExifError&) {
      return 1;  // cameras write such blocks
    }
    if (!orientation) {
      if (const auto packet = Text("XML:com.adobe.xmp")) orientation = XmpOrientation(*packet);
    }
    return orientation.value_or(1);
  }

  const std::string& where_;
  const ReadOptions& options_;
  const std::vector<std::uint8_t>& bytes_;
  Source source_;
  ErrorHandler handler_{};
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::size_t width_ = 0;
  std::size_t height_ = 0;
  std::size_t packed_row_bytes_ = 0;
  PngSamples samples_;
  std::vector<png_bytep> rows_;
};

}  // namespace

StoredImage DecodePng(const std::vector<std::uint8_t>& bytes, const std::string& where,
                      const ReadOptions& options) {
  return Decoder(bytes, where, options).Decode();
}

}  // namespace patchcore
