#include "image/png_file.hpp"

#include <png.h>

#include <string>

#include "errors.hpp"
#include "files/whole.hpp"

namespace patchcore {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void Refuse(const fs::path& path, const std::string& reason) {
  throw Error(path.string() + ": cannot be written (" + reason + "); choose another folder");
}

// libpng's simplified interface reports errors in its struct and needs no setjmp.
std::vector<char> Encoded(png_image& image, const void* pixels, const fs::path& path) {
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::vector<char> bytes(size);
  if (png_image_write_to_memory(&image, bytes.data(), &size, 0, pixels, 0, nullptr) == 0) {
    Refuse(path, image.message);
  }
  bytes.resize(size);
  return bytes;
}

void WriteInFolder(const fs::path& path, const std::vector<char>& bytes) {
  std::error_code failure;
  fs::create_directories(path.parent_path(), failure);
  if (failure) Refuse(path.parent_path(), failure.message());
  WriteWhole(path, {bytes.data(), bytes.size()});
}

png_image Described(std::size_t height, std::size_t width, png_uint_32 format) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.height = static_cast<png_uint_32>(height);
  image.width = static_cast<png_uint_32>(width);
  image.format = format;
  return image;
}

}  // namespace

void WritePng(const fs::path& path, const Image& image) {
  png_image described = Described(image.height, image.width, PNG_FORMAT_RGB);
  WriteInFolder(path, Encoded(described, image.pixels.data(), path));
}

void WritePng16(const fs::path& path, const std::vector<std::uint16_t>& grey, std::size_t height,
                std::size_t width) {
  png_image described = Described(height, width, PNG_FORMAT_LINEAR_Y);
  WriteInFolder(path, Encoded(described, grey.data(), path));
}

}  // namespace patchcore
