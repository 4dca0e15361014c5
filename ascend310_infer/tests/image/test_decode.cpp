// Laws of decoding that need no Pillow; tests/cpp/test_cpp_decode.py compares the rest with Python.
#include "image/decode.hpp"

#include "errors.hpp"
#include "image/exif.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"
#include "tests/support/scratch.hpp"

namespace {

using Catch::Contains;
using patchcore::DecodeImage;
using patchcore::ExifOrientation;
using patchcore::Image;
using patchcore::ImageError;
using patchcore::XmpOrientation;

std::vector<std::uint8_t> Bytes(const std::string& text) { return {text.begin(), text.end()}; }

std::string GoldenImage() {
  return ReadFile(std::filesystem::path(PATCHCORE_TINY) / "selftest.png");
}

// A little-endian TIFF structure with one entry.
std::string Exif(int tag, int type, int count, int value) {
  std::string block("II*\0\x08\0\0\0\x01\0", 10);
  for (const auto& [number, length] : {std::pair{tag, 2}, {type, 2}, {count, 4}, {value, 4}}) {
    for (int i = 0; i < length; ++i) block += static_cast<char>(number >> (8 * i) & 255);
  }
  return block + std::string(4, '\0');
}

TEST_CASE("An image has three bytes a pixel") {
  const Image image = DecodeImage(Bytes(GoldenImage()), "golden");
  CHECK(image.height >= patchcore::kMinSidePx);
  CHECK(image.pixels.size() == image.height * image.width * 3);
}

TEST_CASE("A file cut off anywhere is refused or still whole") {
  const std::string content = GoldenImage();
  const Image whole = DecodeImage(Bytes(content), "golden");
  for (std::size_t length = 0; length < content.size(); length += length < 64 ? 1 : 37) {
    try {
      const Image image = DecodeImage(Bytes(content.substr(0, length)), "cut");
      CHECK(image.pixels == whole.pixels);
      CHECK(length + 16 > content.size());
    } catch (const ImageError& error) {
      CHECK_THAT(error.what(), Contains("cut: not a readable image ("));
    }
  }
}

TEST_CASE("A damaged file is read or refused and nothing else") {
  const std::string content = GoldenImage();
  for (std::size_t place = 0; place < content.size(); place += place < 200 ? 1 : 53) {
    std::string damaged = content;
    damaged[place] = static_cast<char>(damaged[place] ^ (1 << place % 8));
    try {
      DecodeImage(Bytes(damaged), "damaged");
    } catch (const ImageError& error) {
      CHECK(std::string(error.what()).find('\n') == std::string::npos);
    }
  }
}

TEST_CASE("Formats that only Python reads are named") {
  for (const auto& [content, name] :
       {std::pair{"BM######", "BMP"}, {"II*\0####", "TIFF"}, {"RIFF####WEBP", "WEBP"}}) {
    const std::string text(content, 8);
    CHECK_THROWS_WITH(DecodeImage(Bytes(text), "photo"),
                      Contains(std::string("photo: ") + name) && Contains("reads PNG and JPEG"));
  }
  for (const char* text : {"", "text", "GIF89a", "\x89PNG", "\xFF\xD8"}) {
    CHECK_THROWS_WITH(DecodeImage(Bytes(text), "photo"), Contains("not a readable image"));
  }
}

TEST_CASE("A header that promises too many pixels is refused undecoded") {
  std::string content = GoldenImage();
  const auto with_size = [&](std::uint32_t width, std::uint32_t height) {
    for (std::size_t i = 0; i < 4; ++i) {
      content[16 + i] = static_cast<char>(width >> (24 - 8 * i) & 255);
      content[20 + i] = static_cast<char>(height >> (24 - 8 * i) & 255);
    }
    return Bytes(content);
  };
  CHECK_THROWS_WITH(DecodeImage(with_size(8193, 8192), "bomb"),
                    "bomb: expected at most 67108864 pixels, got 8193 x 8192; "
                    "scale it down or cut it into tiles");
  CHECK_THROWS_WITH(DecodeImage(with_size(0xFFFFFFFF, 0xFFFFFFFF), "bomb"),
                    Contains("bomb: expected at most"));
  CHECK_THROWS_WITH(DecodeImage(with_size(7, 100), "small"),
                    "small: expected at least 8 x 8 px, got 7 x 100");
  CHECK_THROWS_WITH(DecodeImage(with_size(100, 0), "small"), Contains("at least 8 x 8"));
}

TEST_CASE("A missing file and a folder are refused") {
  const Scratch folder;
  CHECK_THROWS_WITH(patchcore::ReadImage(folder.path() / "absent.png"),
                    Contains("absent.png: no such file"));
  CHECK_THROWS_WITH(patchcore::ReadImage(folder.path()), Contains("not a readable image"));
}

TEST_CASE("Of EXIF only an integer in tag 0x0112 turns an image") {
  CHECK(ExifOrientation(Exif(0x0112, 3, 1, 6)) == 6);
  CHECK(ExifOrientation(Exif(0x0112, 4, 1, 8)) == 8);
  CHECK(ExifOrientation("Exif" + std::string(2, '\0') + Exif(0x0112, 3, 1, 3)) == 3);
  CHECK(ExifOrientation(Exif(0x0111, 3, 1, 6)) == std::nullopt);
  CHECK(ExifOrientation(Exif(0x0112, 99, 1, 6)) == std::nullopt);
  CHECK(ExifOrientation(Exif(0x0112, 3, 0, 6)) == std::nullopt);
  CHECK(ExifOrientation("") == std::nullopt);
  CHECK_THROWS_AS(ExifOrientation("junk in it"), patchcore::ExifError);
}

TEST_CASE("No EXIF block reaches outside of itself") {
  const std::string block = Exif(0x0112, 3, 1, 6);
  for (std::size_t length = 0; length <= block.size(); ++length) {
    for (std::size_t place = 8; place < length; ++place) {
      std::string damaged = block.substr(0, length);
      damaged[place] = '\xFF';
      try {
        ExifOrientation(damaged);
      } catch (const patchcore::ExifError&) {
      }
    }
  }
}

TEST_CASE("XMP names an orientation as attribute or element") {
  CHECK(XmpOrientation("<x tiff:Orientation=\"6\"/>") == 6);
  CHECK(XmpOrientation("<tiff:Orientation>8</tiff:Orientation>") == 8);
  CHECK(XmpOrientation("tiff:Orientation='3' tiff:Orientation=\"x\"") == std::nullopt);
  CHECK(XmpOrientation("tiff:Orientation=\"") == std::nullopt);
}

}  // namespace
