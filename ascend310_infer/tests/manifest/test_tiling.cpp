// Laws of tiles that need no Python; tests/cpp/test_cpp_tiling.py compares scores and maps.
#include "manifest/tiling.hpp"

#include <algorithm>

#include "tests/support/catch.hpp"

namespace {

using patchcore::Preprocessing;
using patchcore::TileGrid;
using patchcore::Tiling;

// 128 x 192 px in 3 x 4 tiles of 64 px that share 16.
TileGrid Grid() {
  Preprocessing input;
  input.height = 128;
  input.width = 192;
  return TileGrid(Tiling{64, 64, 16, 3, 4}, input, 8);
}

}  // namespace

TEST_CASE("Pieces of one grid blend back to it bit for bit") {
  const TileGrid grid = Grid();
  std::vector<float> whole(grid.height() * grid.width());
  for (std::size_t i = 0; i < whole.size(); ++i) whole[i] = 1.0F / static_cast<float>(i + 3);
  std::vector<double> sums(whole.size(), 0.0);
  for (std::size_t tile = 0; tile < grid.tiles(); ++tile) {
    std::vector<float> piece;
    for (std::size_t y = 0; y < grid.tile_height(); ++y) {
      for (std::size_t x = 0; x < grid.tile_width(); ++x) {
        piece.push_back(whole[grid.Patch(tile, y, x)]);
      }
    }
    grid.Add(tile, piece, sums);
  }
  CHECK(grid.Mean(sums) == whole);
}

TEST_CASE("Tiles are windows of the input, row by row, the last moved inwards") {
  const TileGrid grid = Grid();
  REQUIRE(grid.tiles() == 12);
  std::vector<std::uint8_t> pixels(128 * 192 * 3);
  for (std::size_t i = 0; i < pixels.size(); ++i)
    pixels[i] = static_cast<std::uint8_t>(i * 7 % 251);
  const std::size_t lefts[] = {0, 48, 96, 128};
  for (std::size_t tile = 0; tile < grid.tiles(); ++tile) {
    std::vector<std::uint8_t> cut;
    grid.Cut(pixels, tile, cut);
    REQUIRE(cut.size() == 64 * 64 * 3);
    const std::size_t top = tile / 4 == 2 ? 64 : tile / 4 * 48, left = lefts[tile % 4];
    CHECK(cut.front() == pixels[(top * 192 + left) * 3]);
    CHECK(cut.back() == pixels[((top + 63) * 192 + left + 63) * 3 + 2]);
  }
}

TEST_CASE("Tiles of patches of 14 px lie on one grid of patches, and blend back to it") {
  Preprocessing input;
  input.height = 70;
  input.width = 98;
  const TileGrid grid(Tiling{56, 56, 28, 2, 3}, input, 14);  // 5 x 7 patches
  REQUIRE(grid.tiles() == 6);
  CHECK(grid.height() == 5);
  CHECK(grid.width() == 7);
  CHECK(grid.tile_height() == 4);
  CHECK(grid.Patch(0, 0, 0) == 0);
  CHECK(grid.Patch(1, 0, 0) == 2);  // 28 px to the right
  CHECK(grid.Patch(2, 0, 0) == 3);  // moved inwards
  CHECK(grid.Patch(5, 3, 3) == 34);
  std::vector<double> sums(35, 0.0);
  for (std::size_t tile = 0; tile < 6; ++tile) grid.Add(tile, std::vector<float>(16, 0.75F), sums);
  CHECK(grid.Mean(sums) == std::vector<float>(35, 0.75F));
  // A patch of two tiles: weights 2 and 1 of the ramp of two patches.
  std::fill(sums.begin(), sums.end(), 0.0);
  for (std::size_t tile = 0; tile < 6; ++tile) {
    grid.Add(tile, std::vector<float>(16, static_cast<float>(tile)), sums);
  }
  CHECK(grid.Mean(sums)[2] == Approx((2.0 * 0 + 1.0 * 1) / 3.0));
}

TEST_CASE("As many tiles as cover a side") {
  CHECK(patchcore::TilesAlong(64, 64, 16) == 1);
  CHECK(patchcore::TilesAlong(80, 64, 16) == 2);
  CHECK(patchcore::TilesAlong(112, 64, 16) == 2);
  CHECK(patchcore::TilesAlong(128, 64, 16) == 3);
}
