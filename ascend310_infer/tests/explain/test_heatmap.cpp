// Maps on photographs, colours and PNG files.
#include "explain/heatmap.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "errors.hpp"
#include "image/png_file.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/scratch.hpp"

namespace {

namespace fs = std::filesystem;
using patchcore::HeatmapScale;
using patchcore::Image;
using patchcore::Placement;

constexpr HeatmapScale kScale{1, 2, 3};

}  // namespace

TEST_CASE("a map as large as its photograph is laid on it unchanged") {
  const Placement place{4, 6, 4, 6, 0, 0};
  std::vector<float> map;
  for (int i = 0; i < 24; ++i) map.push_back(static_cast<float>(i * i));
  REQUIRE(patchcore::MapOnPhotograph(map, 4, 6, place) == map);
}

TEST_CASE("a cropped map leaves zeros where nobody looked") {
  const Placement place{8, 8, 8, 8, 2, 3};
  const std::vector<float> laid =
      patchcore::MapOnPhotograph(std::vector<float>(8, 5.0F), 4, 2, place);
  for (std::size_t i = 0; i < 64; ++i) {
    const bool inside = i / 8 >= 2 && i / 8 < 6 && i % 8 >= 3 && i % 8 < 5;
    REQUIRE(laid[i] == (inside ? 5.0F : 0.0F));
  }
}

TEST_CASE("a constant map stays constant on a photograph of any size") {
  const Placement place{37, 101, 16, 24, 0, 0};
  const std::vector<float> map(384, 2.5F);
  for (const float value : patchcore::MapOnPhotograph(map, 16, 24, place)) {
    REQUIRE(std::abs(value - 2.5F) <= 1e-6F);
  }
}

TEST_CASE("colours grow lighter step by step") {
  const auto light = [](const patchcore::Color& rgb) {
    return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2];
  };
  for (std::size_t i = 8; i < 256; i += 8) {
    REQUIRE(light(patchcore::HeatColor(i)) > light(patchcore::HeatColor(i - 8)));
  }
}

TEST_CASE("the colours are those that were computed from OKLCh, every one") {
  REQUIRE(patchcore::HeatColor(0) == patchcore::Color{4, 1, 55});
  REQUIRE(patchcore::HeatColor(255) == patchcore::Color{254, 250, 173});
  std::uint32_t digest = 2166136261U;  // FNV-1a (Fowler, Noll & Vo), 32 bits
  for (std::size_t i = 0; i < 256; ++i) {
    for (const std::uint8_t part : patchcore::HeatColor(i)) digest = (digest ^ part) * 16777619U;
  }
  REQUIRE(digest == 3272401234U);
}

TEST_CASE("normal areas show the dimmed photograph, and no other image changes a colour") {
  const Image photograph{8, 8, std::vector<std::uint8_t>(192, 100)};
  std::vector<float> calm(64, 0.5F), hot = calm;
  hot[63] = 100;
  const Image without = patchcore::Overlay(photograph, calm, kScale);
  const Image with = patchcore::Overlay(photograph, hot, kScale);
  REQUIRE(without.pixels == std::vector<std::uint8_t>(192, 70));
  REQUIRE(std::equal(without.pixels.begin(), without.pixels.begin() + 3 * 48, with.pixels.begin()));
  REQUIRE(with.pixels[3 * 62] == 255);  // the contour runs just outside
}

TEST_CASE("files appear whole, in folders that are made") {
  const Scratch scratch;
  const fs::path& folder = scratch.path();
  const Image photograph{9, 13, std::vector<std::uint8_t>(9 * 13 * 3, 100)};
  patchcore::WriteHeatmap(folder / "a/b.png", photograph, std::vector<float>(117, 1.5F), kScale);
  const Image read = patchcore::ReadImage(folder / "a/b.png");
  REQUIRE(read.height == 9);
  REQUIRE(
      std::equal(photograph.pixels.begin(), photograph.pixels.begin() + 39, read.pixels.begin()));
  REQUIRE(std::distance(fs::directory_iterator(folder / "a"), fs::directory_iterator()) == 1);
}

TEST_CASE("a 16-bit map keeps its scale whatever its values") {
  const Scratch scratch;
  const fs::path& folder = scratch.path();
  std::vector<float> map(64, 0.0F);
  map[1] = 12;  // four times scale.high
  map[2] = 99;  // beyond the scale
  map[3] = 6;
  patchcore::WriteMap(folder / "map.png", map, 8, 8, kScale);
  const Image read = patchcore::ReadImage(folder / "map.png");  // (v + 128) / 257
  REQUIRE(read.pixels[0] == 0);
  REQUIRE(read.pixels[3] == 255);
  REQUIRE(read.pixels[6] == 255);
  REQUIRE(read.pixels[9] == 128);
}

TEST_CASE("a file that cannot be written is named") {
  const Image photograph{8, 8, std::vector<std::uint8_t>(192, 100)};
  const std::string message =
      Refusal<patchcore::Error>([&] { patchcore::WritePng("/proc/no/image.png", photograph); });
  REQUIRE(Mentions(message, "/proc/no: cannot be written"));
}
