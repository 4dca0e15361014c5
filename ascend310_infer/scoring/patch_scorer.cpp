#include "scoring/patch_scorer.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "manifest/upsampling.hpp"

namespace patchcore {
namespace {

constexpr double kTruncate = 4.0;  // the Gaussian ends at four sigma, as in scipy.ndimage

// The pixel at `place` when a row of `size` pixels is reflected without end.
std::size_t Reflected(std::int64_t place, std::int64_t size, Border border) {
  if (size == 1) return 0;
  // The last pixel comes twice in a row, or once.
  const std::int64_t once = border == Border::kMirrored ? 1 : 0;
  const std::int64_t period = 2 * (size - once);
  const std::int64_t inside = ((place % period) + period) % period;
  return static_cast<std::size_t>(std::min(inside, period - 1 + once - inside));
}

std::vector<double> GaussianKernel(double sigma_px) {
  const auto radius = static_cast<std::int64_t>(kTruncate * sigma_px + 0.5);
  std::vector<double> kernel;
  double sum = 0;
  for (std::int64_t offset = -radius; offset <= radius; ++offset) {
    const double distance = static_cast<double>(offset) / sigma_px;
    kernel.push_back(std::exp(-0.5 * distance * distance));
    sum += kernel.back();
  }
  for (double& weight : kernel) weight /= sum;
  return kernel;
}

// left (n, k) times right (k, m), both row-major; weights that are zero cost nothing.
std::vector<float> Multiply(const Matrix& left, const float* right, std::size_t columns) {
  std::vector<float> product(left.rows * columns, 0.0F);
  for (std::size_t row = 0; row < left.rows; ++row) {
    float* out = product.data() + row * columns;
    for (std::size_t inner = 0; inner < left.columns; ++inner) {
      const float weight = left.values[row * left.columns + inner];
      if (weight == 0.0F) continue;
      const float* source = right + inner * columns;
      for (std::size_t column = 0; column < columns; ++column) {
        out[column] += weight * source[column];
      }
    }
  }
  return product;
}

Matrix Transposed(const Matrix& matrix) {
  Matrix turned{matrix.columns, matrix.rows, std::vector<float>(matrix.values.size())};
  for (std::size_t row = 0; row < matrix.rows; ++row) {
    for (std::size_t column = 0; column < matrix.columns; ++column) {
      turned.values[column * matrix.rows + row] = matrix.values[row * matrix.columns + column];
    }
  }
  return turned;
}

}  // namespace

Matrix UpsamplingMatrix(std::size_t size, std::size_t cells, Upsampling mode) {
  Matrix matrix{size, cells, std::vector<float>(size * cells, 0.0F)};
  for (std::size_t target = 0; target < size; ++target) {
    const UpsamplingTaps taps = TapsOf(target, size, cells, mode);
    float* row = matrix.values.data() + target * cells;
    row[taps.lower] += static_cast<float>(1 - taps.share);
    row[taps.upper] += static_cast<float>(taps.share);
  }
  return matrix;
}

Matrix MapMatrix(std::size_t size, std::size_t cells, const Scoring& scoring) {
  const std::vector<double> kernel = GaussianKernel(scoring.sigma_px);
  const auto radius = static_cast<std::int64_t>(kernel.size() / 2);
  std::vector<double> weights(size * cells, 0.0);
  for (std::size_t target = 0; target < size; ++target) {
    double* row = weights.data() + target * cells;
    for (std::size_t tap = 0; tap < kernel.size(); ++tap) {
      const auto reached = static_cast<std::int64_t>(target + tap) - radius;
      const std::size_t pixel =
          Reflected(reached, static_cast<std::int64_t>(size), scoring.map_border);
      const UpsamplingTaps taps = TapsOf(pixel, size, cells, scoring.map_upsampling);
      row[taps.lower] += kernel[tap] * (1 - taps.share);
      row[taps.upper] += kernel[tap] * taps.share;
    }
  }
  Matrix matrix{size, cells, std::vector<float>(weights.size())};
  std::transform(weights.begin(), weights.end(), matrix.values.begin(),
                 [](double weight) { return static_cast<float>(weight); });
  return matrix;
}

std::vector<float> AnomalyMap(const float* levels, const Matrix& rows, const Matrix& columns) {
  const std::vector<float> tall = Multiply(rows, levels, columns.columns);  // (H, w)
  const Matrix left{rows.rows, columns.columns, tall};
  return Multiply(left, Transposed(columns).values.data(), columns.rows);
}

double PaperScore(double distance, const std::vector<float>& neighbour_distances) {
  if (neighbour_distances.size() < 2) return distance;
  // s* is one of the neighbours' distances, but rounded in another place: it may come out larger.
  const float farthest = *std::max_element(neighbour_distances.begin(), neighbour_distances.end());
  const double largest = std::max(distance, static_cast<double>(farthest));
  const double own = std::exp(distance - largest);
  double total = 0;
  for (const float neighbour : neighbour_distances) {
    total += std::exp(static_cast<double>(neighbour) - largest);
  }
  return (1 - own / std::max(own, total)) * distance;
}

double ModelzooScore(const std::vector<float>& squared_distances) {
  const auto nearest = static_cast<double>(squared_distances.front());
  if (squared_distances.size() < 2) return nearest;
  const auto largest = static_cast<double>(squared_distances.back());
  double total = 0;
  for (const float square : squared_distances) {
    total += std::exp(static_cast<double>(square) - largest);
  }
  return (1 - 1 / total) * nearest;
}

PatchScorer::PatchScorer(const MemoryBank& bank, const Layout& layout, const Scoring& scoring)
    : PatchScorer(bank, layout, scoring, TileGrid(layout), std::nullopt, {}) {}

PatchScorer::PatchScorer(const MemoryBank& bank, const Layout& layout, const Scoring& scoring,
                         const TileGrid& grid, std::optional<Region> region,
                         std::vector<std::uint8_t> learned)
    : bank_(bank),
      scoring_(scoring),
      layout_(layout),
      grid_(grid),
      map_rows_(MapMatrix(grid.patch_px() * grid.height(), grid.height(), scoring)),
      map_columns_(MapMatrix(grid.patch_px() * grid.width(), grid.width(), scoring)),
      region_(std::move(region)),
      learned_(std::move(learned)) {
  for (const LayerShape& layer : layout.layers) {
    up_rows_.push_back(UpsamplingMatrix(layout.Height(), layer.height, layout.upsampling));
    up_columns_.push_back(UpsamplingMatrix(layout.Width(), layer.width, layout.upsampling));
  }
  if (!region_) return;
  const std::vector<float> inside(region_->patches.begin(), region_->patches.end());
  map_weights_ = AnomalyMap(inside.data(), map_rows_, map_columns_);
}

ImageInWork PatchScorer::Begin() const {
  ImageInWork image;
  image.sums.assign(grid_.height() * grid_.width(), 0.0);
  image.rows.assign(image.sums.size(), 0);
  return image;
}

void PatchScorer::Add(std::size_t tile, const Layers& layers, const NearestRows& nearest,
                      ImageInWork& image) const {
  grid_.Add(tile, nearest.distances, image.sums);
  const std::size_t none = nearest.distances.size(), width = layout_.Width();
  std::size_t highest = none;
  for (std::size_t patch = 0; patch < none; ++patch) {
    const std::size_t place = grid_.Patch(tile, patch / width, patch % width);
    // At the edge of a tile the network sees too little of the image; another tile owns the patch.
    if (!grid_.Owns(tile, place)) continue;
    image.rows[place] = nearest.rows[patch];
    if (region_ && region_->patches[place] == 0) continue;
    if (nearest.distances[patch] <= image.distance) continue;
    image.distance = nearest.distances[patch];
    highest = patch;
  }
  if (highest == none) return;
  image.row = nearest.rows[highest];
  image.patch = PatchVector(layers, highest);
}

PatchScores PatchScorer::Finish(const ImageInWork& image) const {
  std::vector<float> levels = grid_.Mean(image.sums);
  const GateValues gate = MeasureGate(levels, image.rows, learned_);
  if (scoring_.distance == Distance::kSquared) {
    for (float& level : levels) level *= level;
  }
  std::vector<float> map = Map(levels);
  const double score = scoring_.image_score == ImageScore::kMap
                           ? static_cast<double>(*std::max_element(map.begin(), map.end()))
                           : WholeScore(image);
  return {score, std::move(map), gate};
}

PatchScores PatchScorer::Score(const Layers& layers, const NearestRows& nearest) const {
  ImageInWork image = Begin();
  Add(0, layers, nearest, image);
  return Finish(image);
}

// A mean over inspected patches alone: nothing leaks in from outside the region, and nothing is
// lost towards its edge.
std::vector<float> PatchScorer::Map(const std::vector<float>& levels) const {
  if (!region_) return AnomalyMap(levels.data(), map_rows_, map_columns_);
  std::vector<float> inside(levels.size());
  for (std::size_t i = 0; i < levels.size(); ++i) {
    inside[i] = region_->patches[i] != 0 ? levels[i] : 0.0F;
  }
  std::vector<float> map = AnomalyMap(inside.data(), map_rows_, map_columns_);
  for (std::size_t i = 0; i < map.size(); ++i) {
    map[i] = region_->pixels[i] != 0 ? map[i] / map_weights_[i] : 0.0F;
  }
  return map;
}

double PatchScorer::WholeScore(const ImageInWork& image) const {
  const double largest = image.distance;  // s* in eq. 6
  if (scoring_.image_score == ImageScore::kMax) {
    return scoring_.distance == Distance::kSquared ? largest * largest : largest;
  }
  std::vector<float> squares;
  if (scoring_.image_score == ImageScore::kPaper) {
    const auto row = static_cast<std::size_t>(image.row);      // m*
    for (std::size_t k = 0; k < bank_.neighbour_count; ++k) {  // N_b(m*)
      const auto neighbour =
          static_cast<std::size_t>(bank_.neighbours[row * bank_.neighbour_count + k]);
      squares.push_back(std::sqrt(SquaredDistanceTo(image.patch, neighbour)));
    }
    return PaperScore(largest, squares);
  }
  for (std::size_t row = 0; row < bank_.rows; ++row) {
    squares.push_back(SquaredDistanceTo(image.patch, row));
  }
  const auto last = squares.begin() + static_cast<std::ptrdiff_t>(bank_.neighbour_count);
  std::partial_sort(squares.begin(), last, squares.end());
  squares.erase(last, squares.end());
  return ModelzooScore(squares);
}

// The vector of one patch: the values of every layer in turn, brought to the patch grid.
std::vector<float> PatchScorer::PatchVector(const Layers& layers, std::size_t patch) const {
  const std::size_t row = patch / layout_.Width(), column = patch % layout_.Width();
  std::vector<float> vector;
  vector.reserve(bank_.Size());
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    const LayerShape& shape = layout_.layers[layer];
    for (std::size_t channel = 0; channel < shape.channels; ++channel) {
      const float* plane = layers[layer].values.data() + channel * shape.Cells();
      vector.push_back(shape.stride == 1 ? plane[patch] : Upsampled(plane, layer, row, column));
    }
  }
  return vector;
}

// The value at (row, column) of the patch grid of one plane of a layer.
float PatchScorer::Upsampled(const float* plane, std::size_t layer, std::size_t row,
                             std::size_t column) const {
  const Matrix &rows = up_rows_[layer], &columns = up_columns_[layer];
  const float* row_weights = rows.values.data() + row * rows.columns;
  const float* column_weights = columns.values.data() + column * columns.columns;
  float value = 0;
  for (std::size_t y = 0; y < rows.columns; ++y) {
    if (row_weights[y] == 0.0F) continue;
    float line = 0;
    for (std::size_t x = 0; x < columns.columns; ++x) {
      line += plane[y * columns.columns + x] * column_weights[x];
    }
    value += line * row_weights[y];
  }
  return value;
}

float PatchScorer::SquaredDistanceTo(const std::vector<float>& patch, std::size_t row) const {
  return static_cast<float>(SquaredDistance(bank_, patch.data(), row));
}

}  // namespace patchcore
