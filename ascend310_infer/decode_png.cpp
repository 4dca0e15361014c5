// PNG by libpng without any of its conversions; FORMAT.md's own follow here.
#include <png.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "decoders.hpp"
#include "exif.hpp"

namespace patchcore {
namespace {

constexpr std::size_t kHeaderEnd = 33;  // signature and IHDR
constexpr std::size_t kIhdrAt = 12;
constexpr std::size_t kWidthAt = 16;  // width and height in IHDR, big-endian

// zlib's format cannot expand more than 1032-fold, so a larger promise is refused unallocated.
constexpr std::size_t kMaxExpansion = 1040;

// Chunks whose content matters here; all others are only checked for damage.
constexpr png_byte kKept[] = "tRNS\0tEXt\0zTXt\0iTXt";
constexpr int kKeptCount = 4;
// libpng drops what it finds wrong in eXIf; taken as an unknown chunk it comes as it is.
constexpr png_byte kExif[] = "eXIf";
constexpr std::string_view kExifPrefix("Exif\0\0", 6);

struct Source {
  const std::uint8_t* next;
  std::size_t left;
};

// Where libpng's error function jumps to, and what it was told.
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
  if (length > source->left) png_error(png, "image file is truncated");
  std::memcpy(target, source->next, length);
  source->next += length;
  source->left -= length;
}

std::uint32_t BigEndian(const std::uint8_t* bytes) {
  return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 |
         std::uint32_t{bytes[2]} << 8 | bytes[3];
}

std::uint8_t OnBlack(unsigned int colour, unsigned int alpha) {
  return static_cast<std::uint8_t>((colour * alpha + 127) / 255);
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
  Decoder(const std::vector<std::uint8_t>& bytes, const std::string& where)
      : where_(where), source_{bytes.data(), bytes.size()} {
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
    const std::size_t file_bytes = source_.left;
    ReadHeader();
    if (packed_row_bytes_ > file_bytes * kMaxExpansion / height_) {
      RefuseUnreadable(where_, "image file is truncated");
    }
    const std::size_t row_bytes = png_get_rowbytes(png_, info_);
    stored_.resize(row_bytes * height_);
    rows_.resize(height_);
    for (std::size_t y = 0; y < height_; ++y) rows_[y] = stored_.data() + y * row_bytes;
    Guarded([&] { png_read_image(png_, rows_.data()); });
    ReadEnd();
    StoredImage result;
    result.orientation = Orientation();
    result.image.height = height_;
    result.image.width = width_;
    if (kind_ == PNG_COLOR_TYPE_RGB && depth_ == 8) {
      result.image.pixels = std::move(stored_);
    } else {
      result.image.pixels.resize(height_ * width_ * 3);
      Convert(result.image.pixels.data());
    }
    ClearTransparentColour(result.image.pixels);
    return result;
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
    Guarded([&] {
      png_set_read_fn(png_, &source_, ReadBytes);
      png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // CheckSize has the limits
      png_set_crc_action(png_, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
      png_set_benign_errors(png_, 1);
      png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
      png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_AS_DEFAULT, kKept, kKeptCount);
      png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_ALWAYS, kExif, 1);
      png_read_info(png_, info_);
      kind_ = png_get_color_type(png_, info_);
      depth_ = png_get_bit_depth(png_, info_);
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
    if (source_.left < kHeaderEnd || std::memcmp(source_.next + kIhdrAt, kIhdr, 4) != 0) {
      RefuseUnreadable(where_, "broken PNG file");
    }
    const std::uint32_t width = BigEndian(source_.next + kWidthAt);
    const std::uint32_t height = BigEndian(source_.next + kWidthAt + 4);
    CheckSize(where_, width, height);
  }

  // Metadata may follow the pixels. What is missing or damaged behind them costs no pixel.
  void ReadEnd() {
    if (setjmp(handler_.jump) == 0) png_read_end(png_, info_);
  }

  // Calls `pixel(source, target)` for each pixel of `bytes` stored bytes.
  template <typename Pixel>
  void Each(std::size_t bytes, std::uint8_t* target, Pixel pixel) const {
    const std::uint8_t* source = stored_.data();
    const std::uint8_t* end = source + height_ * width_ * bytes;
    for (; source != end; source += bytes, target += 3) pixel(source, target);
  }

  // Stored samples -> 8-bit RGB, alpha flattened on black; of 16 bits the high byte comes first.
  void Convert(std::uint8_t* target) const {
    const std::size_t sample = depth_ == 16 ? 2 : 1;
    switch (kind_) {
      case PNG_COLOR_TYPE_PALETTE:
        return ConvertPalette(target);
      case PNG_COLOR_TYPE_GRAY:
        return ConvertGrey(target);
      case PNG_COLOR_TYPE_GRAY_ALPHA:
        return Each(2 * sample, target, [=](const std::uint8_t* from, std::uint8_t* to) {
          to[0] = to[1] = to[2] = OnBlack(from[0], from[sample]);
        });
      case PNG_COLOR_TYPE_RGB:
        return Each(3 * sample, target, [=](const std::uint8_t* from, std::uint8_t* to) {
          for (std::size_t c = 0; c < 3; ++c) to[c] = from[c * sample];
        });
      default:
        return Each(4 * sample, target, [=](const std::uint8_t* from, std::uint8_t* to) {
          for (std::size_t c = 0; c < 3; ++c) to[c] = OnBlack(from[c * sample], from[3 * sample]);
        });
    }
  }

  void ConvertGrey(std::uint8_t* target) const {
    if (depth_ == 16) {
      return Each(2, target, [](const std::uint8_t* from, std::uint8_t* to) {
        const unsigned int value = from[0] * 256U + from[1];
        to[0] = to[1] = to[2] = static_cast<std::uint8_t>((value + 128) / 257);
      });
    }
    const int scale = 255 / ((1 << depth_) - 1);
    Each(1, target, [=](const std::uint8_t* from, std::uint8_t* to) {
      to[0] = to[1] = to[2] = static_cast<std::uint8_t>(from[0] * scale);
    });
  }

  // An index beyond PLTE is black.
  void ConvertPalette(std::uint8_t* target) const {
    png_colorp colours = nullptr;
    int count = 0;
    png_get_PLTE(png_, info_, &colours, &count);
    png_bytep alphas = nullptr;
    int alpha_count = 0;
    png_get_tRNS(png_, info_, &alphas, &alpha_count, nullptr);
    std::array<std::array<std::uint8_t, 3>, 256> palette{};
    for (int i = 0; i < std::min(count, 256); ++i) {
      const png_color colour = colours[i];
      const unsigned int alpha = i < alpha_count ? alphas[i] : 255;
      palette[static_cast<std::size_t>(i)] = {OnBlack(colour.red, alpha),
                                              OnBlack(colour.green, alpha),
                                              OnBlack(colour.blue, alpha)};
    }
    Each(1, target, [&](const std::uint8_t* from, std::uint8_t* to) {
      std::copy_n(palette[from[0]].data(), 3, to);
    });
  }

  // tRNS of grey and RGB names one colour, which becomes black. It is compared as Pillow does: the
  // low byte of what tRNS says with the 8-bit colour; 16-bit grey has none.
  void ClearTransparentColour(std::vector<std::uint8_t>& pixels) const {
    png_color_16p colour = nullptr;
    const bool grey = kind_ == PNG_COLOR_TYPE_GRAY;
    if (!(grey && depth_ < 16) && kind_ != PNG_COLOR_TYPE_RGB) return;
    if ((png_get_tRNS(png_, info_, nullptr, nullptr, &colour) & PNG_INFO_tRNS) == 0) return;
    std::array<std::uint8_t, 3> key{};
    if (grey) {
      const int value = depth_ == 1 && colour->gray != 0 ? 255 : colour->gray;
      key.fill(static_cast<std::uint8_t>(value & 255));
    } else {
      key = {static_cast<std::uint8_t>(colour->red & 255),
             static_cast<std::uint8_t>(colour->green & 255),
             static_cast<std::uint8_t>(colour->blue & 255)};
    }
    for (std::size_t at = 0; at < pixels.size(); at += 3) {
      if (std::memcmp(pixels.data() + at, key.data(), 3) == 0) {
        std::memset(pixels.data() + at, 0, 3);
      }
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
    } catch (const ExifError& error) {
      RefuseUnreadable(where_, error.what());
    }
    if (!orientation) {
      if (const auto packet = Text("XML:com.adobe.xmp")) orientation = XmpOrientation(*packet);
    }
    return orientation.value_or(1);
  }

  const std::string& where_;
  Source source_;
  ErrorHandler handler_{};
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::size_t width_ = 0;
  std::size_t height_ = 0;
  int kind_ = 0;
  int depth_ = 0;
  std::size_t packed_row_bytes_ = 0;
  std::vector<std::uint8_t> stored_;
  std::vector<png_bytep> rows_;
};

}  // namespace

StoredImage DecodePng(const std::vector<std::uint8_t>& bytes, const std::string& where) {
  return Decoder(bytes, where).Decode();
}

}  // namespace patchcore
