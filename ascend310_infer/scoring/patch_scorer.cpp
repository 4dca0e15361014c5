#include "scoring/patch_scorer.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace patchcore {
namespace {

constexpr double kTruncate = 4.0;  // the Gaussian ends at four sigma, as in scipy.ndimage

// The at most two cells that one output of an upsampling looks at.
struct Taps {
  std::size_t lower, upper;
  double fraction;  // weight of `upper`; `lower` has the rest
};

Taps UpsamplingTaps(std::size_t target, std::size_t size, std::size_t cells, Upsampling mode) {
  const auto count = static_cast<double>(cells);
  const double centre =
      (static_cast<double>(target) + 0.5) * count / static_cast<double>(size) - 0.5;
  const double lower = mode == Upsampling::kNearest ? std::nearbyint(centre) : std::floor(centre);
  const double fraction = mode == Upsampling::kNearest ? 0.0 : centre - lower;
  const auto cell = [&](double place) {
    return static_cast<std::size_t>(std::clamp(place, 0.0, count - 1));
  };
  return {cell(lower), cell(lower + 1), fraction};
}

// The pixel at `place` when a row of `size` pixels is reflected without end.
std::size_t Reflected(std::int64_t place, std::int64_t size) {
  const std::int64_t period = 2 * size;
  const std::int64_t inside = ((place % period) + period) % period;
  return static_cast<std::size_t>(std::min(inside, period - 1 - inside));
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
    const Taps taps = UpsamplingTaps(target, size, cells, mode);
    float* row = matrix.values.data() + target * cells;
    row[taps.lower] += static_cast<float>(1 - taps.fraction);
    row[taps.upper] += static_cast<float>(taps.fraction);
  }
  return matrix;
}

Matrix MapMatrix(std::size_t size, std::size_t cells, double sigma_px) {
  const std::vector<double> kernel = GaussianKernel(sigma_px);
  const auto radius = static_cast<std::int64_t>(kernel.size() / 2);
  std::vector<double> weights(size * cells, 0.0);
  for (std::size_t target = 0; target < size; ++target) {
    double* row = weights.data() + target * cells;
    for (std::size_t tap = 0; tap < kernel.size(); ++tap) {
      const auto reached = static_cast<std::int64_t>(target + tap) - radius;
      const std::size_t pixel = Reflected(reached, static_cast<std::int64_t>(size));
      const Taps taps = UpsamplingTaps(pixel, size, cells, Upsampling::kBilinear);
      row[taps.lower] += kernel[tap] * (1 - taps.fraction);
      row[taps.upper] += kernel[tap] * taps.fraction;
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

PatchScorer::PatchScorer(const MemoryBank& bank, const Features& features, const Scoring& scoring)
    : PatchScorer(bank, features, scoring, TileGrid(features.layer2), std::nullopt) {}

PatchScorer::PatchScorer(const MemoryBank& bank, const Features& features, const Scoring& scoring,
                         TileGrid grid, std::optional<Region> region)
    : bank_(bank),
      kind_(scoring.image_score),
      height_(features.layer2.height),
      width_(features.layer2.width),
      grid_(std::move(grid)),
      map_rows_(MapMatrix(8 * grid_.height(), grid_.height(), scoring.sigma_px)),
      map_columns_(MapMatrix(8 * grid_.width(), grid_.width(), scoring.sigma_px)),
      up_rows_(UpsamplingMatrix(height_, height_ / 2, features.layer3_upsampling)),
      up_columns_(UpsamplingMatrix(width_, width_ / 2, features.layer3_upsampling)),
      region_(std::move(region)) {
  if (!region_) return;
  const std::vector<float> inside(region_->patches.begin(), region_->patches.end());
  map_weights_ = AnomalyMap(inside.data(), map_rows_, map_columns_);
}

ImageInWork PatchScorer::Begin() const {
  ImageInWork image;
  image.sums.assign(grid_.height() * grid_.width(), 0.0);
  return image;
}

void PatchScorer::Add(std::size_t tile, const Tensor& layer2, const Tensor& layer3,
                      const NearestRows& nearest, ImageInWork& image) const {
  grid_.Add(tile, nearest.distances, image.sums);
  const std::size_t none = nearest.distances.size();
  std::size_t highest = none;
  for (std::size_t patch = 0; patch < none; ++patch) {
    const std::size_t place = grid_.Patch(tile, patch / width_, patch % width_);
    // At the edge of a tile the network sees too little of the image; another tile owns the patch.
    if (!grid_.Owns(tile, place) || (region_ && region_->patches[place] == 0)) continue;
    if (nearest.distances[patch] <= image.distance) continue;
    image.distance = nearest.distances[patch];
    highest = patch;
  }
  if (highest == none) return;
  image.row = nearest.rows[highest];
  image.patch = PatchVector(layer2, layer3, highest);
}

PatchScores PatchScorer::Finish(const ImageInWork& image) const {
  std::vector<float> levels = grid_.Mean(image.sums);
  // The MindSpore Models evaluation never takes the root of faiss's squared distances.
  if (kind_ == ImageScore::kModelzoo) {
    for (float& level : levels) level *= level;
  }
  return {WholeScore(image), Map(levels)};
}

PatchScores PatchScorer::Score(const Tensor& layer2, const Tensor& layer3,
                               const NearestRows& nearest) const {
  ImageInWork image = Begin();
  Add(0, layer2, layer3, nearest, image);
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
  if (kind_ == ImageScore::kMax) return largest;
  std::vector<float> squares;
  if (kind_ == ImageScore::kPaper) {
    const auto row = static_cast<std::size_t>(image.row);      // m*
    for (std::size_t k = 0; k < bank_.neighbour_count; ++k) {  // N_b(m*)
      const auto neighbour =
          static_cast<std::size_t>(bank_.neighbours[row * bank_.neighbour_count + k]);
      squares.push_back(std::sqrt(SquaredDistance(image.patch, neighbour)));
    }
    return PaperScore(largest, squares);
  }
  for (std::size_t row = 0; row < bank_.rows; ++row) {
    squares.push_back(SquaredDistance(image.patch, row));
  }
  const auto last = squares.begin() + static_cast<std::ptrdiff_t>(bank_.neighbour_count);
  std::partial_sort(squares.begin(), last, squares.end());
  squares.erase(last, squares.end());
  return ModelzooScore(squares);
}

// The vector of one patch: layer2's channels, then layer3's brought to layer2's grid.
std::vector<float> PatchScorer::PatchVector(const Tensor& layer2, const Tensor& layer3,
                                            std::size_t patch) const {
  std::vector<float> vector;
  vector.reserve(bank_.channels2 + bank_.channels3);
  for (std::size_t channel = 0; channel < bank_.channels2; ++channel) {
    vector.push_back(layer2.values[channel * height_ * width_ + patch]);
  }
  const std::size_t height3 = height_ / 2, width3 = width_ / 2;
  const float* row_weights = up_rows_.values.data() + (patch / width_) * height3;
  const float* column_weights = up_columns_.values.data() + (patch % width_) * width3;
  for (std::size_t channel = 0; channel < bank_.channels3; ++channel) {
    const float* plane = layer3.values.data() + channel * height3 * width3;
    float value = 0;
    for (std::size_t y = 0; y < height3; ++y) {
      if (row_weights[y] == 0.0F) continue;
      float line = 0;
      for (std::size_t x = 0; x < width3; ++x) line += plane[y * width3 + x] * column_weights[x];
      value += line * row_weights[y];
    }
    vector.push_back(value);
  }
  return vector;
}

float PatchScorer::SquaredDistance(const std::vector<float>& patch, std::size_t row) const {
  double sum = 0;
  const float* row2 = bank_.layer2 + row * bank_.channels2;
  for (std::size_t channel = 0; channel < bank_.channels2; ++channel) {
    const double difference = row2[channel] - patch[channel];
    sum += difference * difference;
  }
  const float* row3 = bank_.layer3 + row * bank_.channels3;
  for (std::size_t channel = 0; channel < bank_.channels3; ++channel) {
    const double difference = row3[channel] - patch[bank_.channels2 + channel];
    sum += difference * difference;
  }
  return static_cast<float>(sum);
}

}  // namespace patchcore
