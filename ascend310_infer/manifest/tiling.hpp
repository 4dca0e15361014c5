// An input cut into overlapping tiles of one size, and the tiles' distances combined on one grid;
// the twin of patchcore_runtime/manifest/tiling.py. artifacts/FORMAT.md, section Tiles, defines it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "manifest/manifest.hpp"

namespace patchcore {

// Where the tiles of one input geometry lie, row by row, and the weight of each at each patch.
class TileGrid {
 public:
  //   patch_px   p, the side of a patch in pixels
  TileGrid(const Tiling& tiling, const Preprocessing& input, std::size_t patch_px);
  // An input that is one tile.
  explicit TileGrid(const Layout& layout);

  std::size_t tiles() const { return corners_.size(); }     // T
  std::size_t height() const { return height_; }            // h of the whole patch grid
  std::size_t width() const { return width_; }              // w
  std::size_t tile_height() const { return tile_height_; }  // rows of a tile's patch grid
  std::size_t tile_width() const { return tile_width_; }
  std::size_t patch_px() const { return patch_px_; }  // p

  // Appends the pixels of one tile, (tile_height, tile_width, 3), to `images`.
  //   pixels     row-major (H, W, 3)
  void Cut(const std::vector<std::uint8_t>& pixels, std::size_t tile,
           std::vector<std::uint8_t>& images) const;

  // Number, on the whole grid, of patch (y, x) of a tile.
  std::size_t Patch(std::size_t tile, std::size_t y, std::size_t x) const {
    return (corners_[tile].top + y) * width_ + corners_[tile].left + x;
  }

  // Whether a tile sees a patch of the whole grid with more weight than any before it and as much
  // as any after it.
  bool Owns(std::size_t tile, std::size_t patch) const { return owners_[patch] == tile; }

  // Adds one tile's distances, weighted, to `sums`: (tile rows, tile columns) to (h, w).
  void Add(std::size_t tile, const std::vector<float>& distances, std::vector<double>& sums) const;

  // The weighted mean, after every tile was added; (h, w).
  std::vector<float> Mean(const std::vector<double>& sums) const;

 private:
  struct Corner {
    std::size_t top, left;  // in patches
  };

  std::size_t patch_px_, height_, width_, tile_height_, tile_width_;
  std::vector<Corner> corners_;
  std::vector<std::size_t> row_weights_, column_weights_;  // of one tile
  std::vector<std::size_t> totals_;                        // (h, w), of all tiles
  std::vector<std::size_t> owners_;                        // (h, w), tiles
};

// How many tiles cover one side.
std::size_t TilesAlong(std::size_t length, std::size_t tile, std::size_t overlap);

}  // namespace patchcore
