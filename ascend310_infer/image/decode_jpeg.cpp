// JPEG by libjpeg-turbo with its default settings, which are Pillow's.
#include <cstdio>  // jpeglib.h uses FILE and size_t without including them

#include <jpeglib.h>

#include <csetjmp>
#include <cstring>
#include <optional>
#include <string_view>

#include "errors.hpp"
#include "image/decoders.hpp"
#include "image/exif.hpp"

namespace patchcore {
namespace {

constexpr char kTruncated[] = "image file is truncated";
constexpr int kApp1 = JPEG_APP0 + 1;
constexpr unsigned int kWholeMarker = 0xFFFF;
constexpr std::string_view kExif("Exif\0\0", 6);
constexpr std::string_view kXmp("http://ns.adobe.com/xap/1.0/\0", 29);

constexpr std::size_t kMostScans = 100;  // encoders write one to about twenty

// libjpeg reports errors by a function that must not return: it jumps back to Guarded().
struct ErrorHandler {
  jpeg_error_mgr base;  // first, so that libjpeg's pointer to it is a pointer to this
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

void FailDecoding(j_common_ptr shared) {
  auto* handler = reinterpret_cast<ErrorHandler*>(shared->err);
  handler->base.format_message(shared, handler->message);
  std::longjmp(handler->jump, 1);
}

// Warnings are about damage that libjpeg repairs; Pillow accepts such an image, too.
void IgnoreMessage(j_common_ptr, int) {}

// Called when the file has ended before the image: libjpeg itself would go on with grey.
boolean FailTruncated(j_decompress_ptr jpeg) {
  auto* handler = reinterpret_cast<ErrorHandler*>(jpeg->err);
  std::snprintf(handler->message, sizeof(handler->message), "%s", kTruncated);
  std::longjmp(handler->jump, 1);
}

// One decompression; libjpeg's memory is freed at the end of its scope.
class Decoder {
 public:
  Decoder(const std::vector<std::uint8_t>& bytes, const std::string& where,
          const ReadOptions& options)
      : where_(where), options_(options) {
    jpeg_.err = jpeg_std_error(&handler_.base);
    handler_.base.error_exit = FailDecoding;
    handler_.base.emit_message = IgnoreMessage;
    Guarded([&] {
      jpeg_create_decompress(&jpeg_);
      jpeg_mem_src(&jpeg_, bytes.data(), static_cast<unsigned long>(bytes.size()));
      jpeg_.src->fill_input_buffer = FailTruncated;
      jpeg_save_markers(&jpeg_, kApp1, kWholeMarker);
    });
  }
  ~Decoder() { jpeg_destroy_decompress(&jpeg_); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  StoredImage Decode() {
    Guarded([&] { jpeg_read_header(&jpeg_, TRUE); });
    CheckSize(where_, jpeg_.image_width, jpeg_.image_height);
    const int channels = jpeg_.num_components;
    if (channels != 1 && channels != 3 && channels != 4) {
      RefuseUnreadable(where_, "cannot handle " + std::to_string(channels) + "-layer images");
    }
    jpeg_.out_color_space = channels == 1 ? JCS_GRAYSCALE : (channels == 3 ? JCS_RGB : JCS_CMYK);
    StoredImage stored;
    stored.orientation = Orientation();
    if (options_.accept) {
      const bool sideways = IsSideways(stored.orientation);
      options_.accept(where_, sideways ? jpeg_.image_width : jpeg_.image_height,
                      sideways ? jpeg_.image_height : jpeg_.image_width);
    }
    stored.image.height = jpeg_.image_height;
    stored.image.width = jpeg_.image_width;
    stored.image.pixels.resize(stored.image.height * stored.image.width * 3);
    row_.resize(stored.image.width * static_cast<std::size_t>(channels));
    Guarded([&] { jpeg_start_decompress(&jpeg_); });
    ReadRows(stored.image);
    Finish();
    return stored;
  }

 private:
  // Runs calls into libjpeg and turns its errors into ImageError. No frame between here and
  // libjpeg may own anything, because the jump back skips destructors.
  template <typename Calls>
  void Guarded(Calls calls) {
    if (setjmp(handler_.jump) != 0) RefuseUnreadable(where_, handler_.message);
    calls();
  }

  // As Pillow, accepts a file that ends after its last row without a marker of the end.
  void Finish() {
    if (setjmp(handler_.jump) == 0) {
      jpeg_finish_decompress(&jpeg_);
    } else if (std::strcmp(handler_.message, kTruncated) != 0) {
      RefuseUnreadable(where_, handler_.message);
    }
  }

  void ReadRows(Image& image) {
    std::uint8_t* target = image.pixels.data();
    const std::size_t stride = image.width * 3;
    Guarded([&] {
      const bool direct = jpeg_.out_color_space == JCS_RGB;
      for (; jpeg_.output_scanline < jpeg_.output_height; target += stride) {
        JSAMPROW row = direct ? target : row_.data();
        jpeg_read_scanlines(&jpeg_, &row, 1);
        if (!direct) ConvertRow(target, image.width);
      }
    });
  }

  void ConvertRow(std::uint8_t* target, std::size_t width) const {
    const std::uint8_t* source = row_.data();
    if (jpeg_.out_color_space == JCS_GRAYSCALE) {
      for (std::size_t x = 0; x < width; ++x, target += 3) {
        target[0] = target[1] = target[2] = source[x];
      }
      return;
    }
    for (std::size_t x = 0; x < width; ++x, target += 3, source += 4) {
      const int light = source[3];  // inks are stored inverted: 255 is no ink
      for (std::size_t c = 0; c < 3; ++c) {
        const int t = (255 - source[c]) * light + 128;
        target[c] = static_cast<std::uint8_t>(light - (((t >> 8) + t) >> 8));
      }
    }
  }

  // From APP1 markers; EXIF may span several, of XMP the last counts.
  int Orientation() const {
    std::string exif;
    std::optional<std::string_view> xmp;
    for (auto* marker = jpeg_.marker_list; marker != nullptr; marker = marker->next) {
      const std::string_view content(reinterpret_cast<const char*>(marker->data),
                                     marker->data_length);
      if (content.substr(0, kExif.size()) == kExif) {
        exif += exif.empty() ? content : content.substr(kExif.size());
      } else if (content.substr(0, kXmp.size()) == kXmp) {
        xmp = content.substr(kXmp.size());
      }
    }
    std::optional<int> orientation;
    try {
      orientation = ExifOrientation(exif);
    } catch (const ExifError&) {
      return 1;  // cameras write such blocks
    }
    if (!orientation && xmp) orientation = XmpOrientation(*xmp);
    return orientation.value_or(1);
  }

  const std::string& where_;
  const ReadOptions& options_;
  jpeg_decompress_struct jpeg_{};
  ErrorHandler handler_{};
  std::vector<std::uint8_t> row_;
};

// Counts SOS markers up to the end of the image (ITU T.81, annex B), as the Python runtime
// does: each scan, of ten bytes, costs a pass over all coefficients.
bool HasTooManyScans(const std::vector<std::uint8_t>& bytes, const std::string& where) {
  std::size_t scans = 0;
  for (std::size_t at = 2; at + 1 < bytes.size();) {
    const std::uint8_t kind = bytes[at + 1];
    // A stuffed zero, a restart and a fill byte occur inside a scan's data.
    if (bytes[at] != 0xFF || kind == 0 || (kind >= 0xD0 && kind <= 0xD7) || kind == 0xFF) {
      ++at;
      continue;
    }
    at += 2;
    if (kind == 0xD9) break;  // the end
    if (kind == 0xDA && ++scans > kMostScans) return true;
    // Of arithmetic coding; Pillow refuses it in a header.
    if (kind == 0x01 && scans == 0) RefuseUnreadable(where, "no marker found");
    if (kind == 0x01 || kind == 0xD8) continue;  // without a length
    if (at + 1 >= bytes.size()) break;
    at += std::size_t{bytes[at]} << 8 | bytes[at + 1];
  }
  return false;
}

}  // namespace

StoredImage DecodeJpeg(const std::vector<std::uint8_t>& bytes, const std::string& where,
                       const ReadOptions& options) {
  if (HasTooManyScans(bytes, where)) {
    throw ImageError(where + ": expected at most " + std::to_string(kMostScans) +
                     " scans in a JPEG, got more; save it as baseline");
  }
  return Decoder(bytes, where, options).Decode();
}

}  // namespace patchcore
