#include "manifest/tiling.hpp"

#include <algorithm>

namespace patchcore {
namespace {

constexpr std::size_t kChannels = 3;

// Where the tiles of one side begin, in patches; the last is moved inwards.
std::vector<std::size_t> Starts(std::size_t length, std::size_t tile, std::size_t overlap,
                                std::size_t count, std::size_t patch_px) {
  std::vector<std::size_t> starts;
  for (std::size_t number = 0; number < count; ++number) {
    starts.push_back(std::min(number * (tile - overlap), length - tile) / patch_px);
  }
  return starts;
}

// 1, 2, … up to `longest`, and down again: the weights of one side of a tile.
std::vector<std::size_t> Ramp(std::size_t cells, std::size_t longest) {
  std::vector<std::size_t> ramp;
  for (std::size_t i = 0; i < cells; ++i) ramp.push_back(std::min({i + 1, cells - i, longest}));
  return ramp;
}

Tiling OneTile(std::size_t height, std::size_t width) { return {height, width, 0, 1, 1}; }

Preprocessing InputOf(std::size_t height, std::size_t width) {
  Preprocessing input;
  input.height = height;
  input.width = width;
  return input;
}

}  // namespace

TileGrid::TileGrid(const Layout& layout)
    : TileGrid(OneTile(layout.patch_px * layout.Height(), layout.patch_px * layout.Width()),
               InputOf(layout.patch_px * layout.Height(), layout.patch_px * layout.Width()),
               layout.patch_px) {}

TileGrid::TileGrid(const Tiling& tiling, const Preprocessing& input, std::size_t patch_px)
    : patch_px_(patch_px),
      height_(input.height / patch_px),
      width_(input.width / patch_px),
      tile_height_(tiling.tile_height / patch_px),
      tile_width_(tiling.tile_width / patch_px),
      totals_(height_ * width_, 0),
      owners_(height_ * width_, 0) {
  const auto lefts =
      Starts(input.width, tiling.tile_width, tiling.overlap, tiling.columns, patch_px);
  for (const std::size_t top :
       Starts(input.height, tiling.tile_height, tiling.overlap, tiling.rows, patch_px)) {
    for (const std::size_t left : lefts) corners_.push_back({top, left});
  }
  const std::size_t longest = std::max<std::size_t>(1, tiling.overlap / patch_px);
  row_weights_ = Ramp(tile_height_, longest);
  column_weights_ = Ramp(tile_width_, longest);
  std::vector<std::size_t> largest(totals_.size(), 0);
  for (std::size_t tile = 0; tile < tiles(); ++tile) {
    for (std::size_t y = 0; y < tile_height_; ++y) {
      for (std::size_t x = 0; x < tile_width_; ++x) {
        const std::size_t patch = Patch(tile, y, x), weight = row_weights_[y] * column_weights_[x];
        totals_[patch] += weight;
        if (weight <= largest[patch]) continue;
        largest[patch] = weight;
        owners_[patch] = tile;
      }
    }
  }
}

void TileGrid::Cut(const std::vector<std::uint8_t>& pixels, std::size_t tile,
                   std::vector<std::uint8_t>& images) const {
  const std::size_t stride = width_ * patch_px_ * kChannels;
  const std::size_t length = tile_width_ * patch_px_ * kChannels;
  const auto corner =
      pixels.begin() + static_cast<std::ptrdiff_t>(corners_[tile].top * patch_px_ * stride +
                                                   corners_[tile].left * patch_px_ * kChannels);
  for (std::size_t row = 0; row < tile_height_ * patch_px_; ++row) {
    const auto start = corner + static_cast<std::ptrdiff_t>(row * stride);
    images.insert(images.end(), start, start + static_cast<std::ptrdiff_t>(length));
  }
}

void TileGrid::Add(std::size_t tile, const std::vector<float>& distances,
                   std::vector<double>& sums) const {
  for (std::size_t y = 0; y < tile_height_; ++y) {
    for (std::size_t x = 0; x < tile_width_; ++x) {
      const auto weight = static_cast<double>(row_weights_[y] * column_weights_[x]);
      sums[Patch(tile, y, x)] += weight * static_cast<double>(distances[y * tile_width_ + x]);
    }
  }
}

std::vector<float> TileGrid::Mean(const std::vector<double>& sums) const {
  std::vector<float> mean(sums.size());
  for (std::size_t i = 0; i < sums.size(); ++i) {
    mean[i] = static_cast<float>(sums[i] / static_cast<double>(totals_[i]));
  }
  return mean;
}

std::size_t TilesAlong(std::size_t length, std::size_t tile, std::size_t overlap) {
  if (length <= tile) return 1;
  const std::size_t step = tile - overlap;
  return (length - overlap + step - 1) / step;
}

}  // namespace patchcore
