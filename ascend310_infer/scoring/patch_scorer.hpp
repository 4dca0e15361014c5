// Patch distances (h, w) -> image score and anomaly map (H, W); the twin of
// patchcore_runtime/scoring/patch_scorer.py and rules.py.
//
// PatchCore (Roth et al. 2021, arXiv:2106.08265), section 3.3: eq. 6 picks the patch with the
// largest nearest distance, eq. 7 weights it. Upsampling and smoothing are linear and separable, so
// the map is two small matrix products: map = A d B^T with A (H, h) and B (W, w) made once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "artifact/folder.hpp"
#include "image/region.hpp"
#include "manifest/tiling.hpp"
#include "scoring/gate.hpp"
#include "search/exact.hpp"
#include "tensor.hpp"

namespace patchcore {

// Row-major weights (rows, columns).
struct Matrix {
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::vector<float> values;
};

// Weights (size, cells) that bring a row of cells to a finer row, half-pixel centres.
//   mode       kBilinear: edges held; kNearest: the cell that covers the output's centre
Matrix UpsamplingMatrix(std::size_t size, std::size_t cells, Upsampling mode);

// The upsampling of a map's side, then a Gaussian blur that reflects at the border, with its last
// pixel repeated (d c b a | a b c d) or mirrored (d c b | a b c d).
//   returns    (size, cells); every row sums to one
Matrix MapMatrix(std::size_t size, std::size_t cells, const Scoring& scoring);

// Levels (h, w) -> smoothed map (H, W) in the unit of the levels.
//   levels     row-major (rows.columns, columns.columns), not owned
//   returns    row-major (rows.rows, columns.rows)
std::vector<float> AnomalyMap(const float* levels, const Matrix& rows, const Matrix& columns);

// Eq. 7: the largest patch distance, weighted by how isolated its nearest row is.
//   distance              s* = d(p*, m*)
//   neighbour_distances   d(p*, m) for m in N_b(m*), m* among them, (K,)
//   returns               s* itself when the bank has one row; never clamped, never overflows
double PaperScore(double distance, const std::vector<float>& neighbour_distances);

// The MindSpore Models score: softmax over the patch's own K nearest squared distances.
//   squared_distances     from p* to its K nearest rows, ascending, (K,), K >= 1
double ModelzooScore(const std::vector<float>& squared_distances);

// One image whose tiles come one by one: distances and rows on their way to one grid, and the patch
// with the largest distance so far, p* in eq. 6.
struct ImageInWork {
  std::vector<double> sums;        // (h, w), weighted
  std::vector<std::int64_t> rows;  // (h, w), the nearest; the tile that owns a patch gives its row
  float distance = -1;             // s*; -1 before the first inspected patch
  std::int64_t row = 0;            // m*
  std::vector<float> patch;        // (D,)
};

// Score and map of one image, and its figures for the gate, of the learned region.
struct PatchScores {
  double score = 0;
  std::vector<float> anomaly_map;  // (H, W), row-major
  GateValues gate;
};

// Bank, scoring rule and region of one artifact; safe to share between threads.
class PatchScorer {
 public:
  // The bank's sections stay where they are and must outlive this object.
  //   grid       the tiles of an input
  //   region     none: every patch is inspected
  //   learned    (h, w), 1 for each patch of the region that was learned, which contains `region`;
  //              the gate looks at all of it; empty: all patches
  PatchScorer(const MemoryBank& bank, const Layout& layout, const Scoring& scoring,
              const TileGrid& grid, std::optional<Region> region,
              std::vector<std::uint8_t> learned);
  // For an input that is one tile, all of which is inspected.
  PatchScorer(const MemoryBank& bank, const Layout& layout, const Scoring& scoring);

  const TileGrid& grid() const { return grid_; }

  // An image without any tile yet.
  ImageInWork Begin() const;

  // Takes the layers of one tile and what the search found for them.
  //   tile       0, 1, … in this order
  //   layers     (1, C_i, h/s_i, w/s_i) each, as `layout` says
  //   nearest    (h, w) distances and rows of these layers
  void Add(std::size_t tile, const Layers& layers, const NearestRows& nearest,
           ImageInWork& image) const;

  // Score, map and figures, when every tile was added.
  PatchScores Finish(const ImageInWork& image) const;

  // All three for an image of one tile.
  PatchScores Score(const Layers& layers, const NearestRows& nearest) const;

 private:
  std::vector<float> Map(const std::vector<float>& levels) const;
  double WholeScore(const ImageInWork& image) const;
  std::vector<float> PatchVector(const Layers& layers, std::size_t patch) const;
  float Upsampled(const float* plane, std::size_t layer, std::size_t row, std::size_t column) const;
  float SquaredDistanceTo(const std::vector<float>& patch, std::size_t row) const;

  MemoryBank bank_;
  Scoring scoring_;
  Layout layout_;  // of a tile
  TileGrid grid_;
  Matrix map_rows_, map_columns_;
  std::vector<Matrix> up_rows_, up_columns_;  // of each layer
  std::optional<Region> region_;
  std::vector<std::uint8_t> learned_;
  std::vector<float> map_weights_;  // (H, W), of the inspected patches; empty if all are
};

}  // namespace patchcore
