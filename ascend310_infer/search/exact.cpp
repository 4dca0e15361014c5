#include "search/exact.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "function_clones.hpp"
#include "threads.hpp"

namespace patchcore {
namespace {

constexpr std::size_t kWide = 16;       // patches of one panel, one vector of floats
constexpr std::size_t kTall = 6;        // rows that one pass over a panel multiplies
constexpr std::size_t kBlockRows = 48;  // rows whose floats stay in the second-level cache
static_assert(kBlockRows % kTall == 0);

// The compiler maps it to the widest registers available: 1 x 512, 2 x 256 or 4 x 128 bits.
using Wide [[gnu::vector_size(kWide * sizeof(float))]] = float;

std::size_t Panels(std::size_t patches) { return (patches + kWide - 1) / kWide; }

// (channels, patches) -> panels of 16 patches, each (channels, 16), the last filled up with zeros.
std::vector<float> PackPanels(const float* planes, std::size_t channels, std::size_t patches) {
  std::vector<float> packed(Panels(patches) * channels * kWide, 0.0F);
  for (std::size_t panel = 0; panel < Panels(patches); ++panel) {
    const std::size_t first = panel * kWide;
    const std::size_t count = std::min(kWide, patches - first);
    for (std::size_t channel = 0; channel < channels; ++channel) {
      std::memcpy(packed.data() + (panel * channels + channel) * kWide,
                  planes + channel * patches + first, count * sizeof(float));
    }
  }
  return packed;
}

// products[i] += rows[i] · panel for six rows and sixteen patches.
//   rows       six pointers to (channels,) each
//   panel      (channels, 16)
//   products   six pointers to (16,) each
// Every element is summed in the same order, so equal rows get equal products.
PATCHCORE_CLONED
void AddProducts(const std::array<const float*, kTall>& rows, const float* panel,
                 std::size_t channels, const std::array<float*, kTall>& products) {
  std::array<Wide, kTall> sums;
  for (std::size_t i = 0; i < kTall; ++i) std::memcpy(&sums[i], products[i], sizeof(Wide));
  for (std::size_t channel = 0; channel < channels; ++channel) {
    Wide patches;
    std::memcpy(&patches, panel + channel * kWide, sizeof(Wide));
    for (std::size_t i = 0; i < kTall; ++i) sums[i] += patches * rows[i][channel];
  }
  for (std::size_t i = 0; i < kTall; ++i) std::memcpy(products[i], &sums[i], sizeof(Wide));
}

// products (count, 16·panels) += rows (count, channels) times panels; count <= kBlockRows.
void AddBlockProducts(const float* rows, std::size_t count, std::size_t channels,
                      const std::vector<float>& panels, std::vector<float>& products) {
  const std::size_t panel_count = panels.size() / (channels * kWide);
  const std::size_t stride = panel_count * kWide;
  std::array<float, kWide> unwanted{};
  for (std::size_t panel = 0; panel < panel_count; ++panel) {
    for (std::size_t first = 0; first < count; first += kTall) {
      std::array<const float*, kTall> sources{};
      std::array<float*, kTall> targets{};
      for (std::size_t i = 0; i < kTall; ++i) {
        const bool inside = first + i < count;  // beyond the end, the last row is repeated
        sources[i] = rows + std::min(first + i, count - 1) * channels;
        targets[i] =
            inside ? products.data() + (first + i) * stride + panel * kWide : unwanted.data();
      }
      AddProducts(sources, panels.data() + panel * channels * kWide, channels, targets);
    }
  }
}

// Takes a row wherever it scores more than the best so far; scores and best are (patches,).
PATCHCORE_CLONED
void KeepBetter(const float* scores, std::int32_t row, std::size_t patches, float* best,
                std::int32_t* best_rows) {
  for (std::size_t patch = 0; patch < patches; ++patch) {
    const bool better = scores[patch] > best[patch];
    best[patch] = better ? scores[patch] : best[patch];
    best_rows[patch] = better ? row : best_rows[patch];
  }
}

void CheckShape(const Tensor& tensor, const char* name, std::size_t channels, std::size_t height,
                std::size_t width) {
  const std::vector<std::int64_t> expected{1, static_cast<std::int64_t>(channels),
                                           static_cast<std::int64_t>(height),
                                           static_cast<std::int64_t>(width)};
  if (tensor.shape != expected || tensor.values.size() != channels * height * width) {
    throw std::invalid_argument(std::string(name) + ": not the shape of this index");
  }
}

}  // namespace

PortableIndex::PortableIndex(const MemoryBank& bank, const Features& features, std::size_t threads)
    : bank_(bank),
      height_(features.layer2.height),
      width_(features.layer2.width),
      threads_(std::clamp<std::size_t>(threads, 1, (bank.rows + kBlockRows - 1) / kBlockRows)),
      row_taps_(MakeTaps(height_, features.layer3_upsampling == Upsampling::kBilinear)),
      column_taps_(MakeTaps(width_, features.layer3_upsampling == Upsampling::kBilinear)) {}

NearestRows PortableIndex::Nearest(const Tensor& layer2, const Tensor& layer3) const {
  CheckShape(layer2, "layer2", bank_.channels2, height_, width_);
  CheckShape(layer3, "layer3", bank_.channels3, height_ / 2, width_ / 2);
  const std::size_t patches = height_ * width_;
  const auto panels2 = PackPanels(layer2.values.data(), bank_.channels2, patches);
  const auto panels3 = PackPanels(layer3.values.data(), bank_.channels3, patches / 4);
  std::vector<Best> found(threads_);
  InShares(bank_.rows, threads_, [&](std::size_t first, std::size_t last, std::size_t part) {
    SearchRows(panels2, panels3, first, last, found[part]);
  });
  // Shares are merged in the order of their rows, and only a larger score wins: ties stay first.
  Best& best = found.front();
  for (std::size_t part = 1; part < threads_; ++part) {
    for (std::size_t patch = 0; patch < patches; ++patch) {
      if (!(found[part].scores[patch] > best.scores[patch])) continue;
      best.scores[patch] = found[part].scores[patch];
      best.rows[patch] = found[part].rows[patch];
    }
  }
  const auto last = best.rows.begin() + static_cast<std::ptrdiff_t>(patches);
  NearestRows nearest{std::vector<float>(patches), {best.rows.begin(), last}};
  const std::vector<float> vectors = PatchVectors(layer2, layer3);
  const std::size_t size = bank_.channels2 + bank_.channels3;  // D
  InShares(patches, threads_, [&](std::size_t first, std::size_t last, std::size_t) {
    for (std::size_t patch = first; patch < last; ++patch) {
      nearest.distances[patch] =
          Distance(vectors.data() + patch * size, static_cast<std::size_t>(nearest.rows[patch]));
    }
  });
  return nearest;
}

std::vector<PortableIndex::Taps> PortableIndex::MakeTaps(std::size_t cells, bool bilinear) const {
  std::vector<Taps> taps;
  const std::size_t last = cells / 2 - 1;  // of layer3's cells
  for (std::size_t cell = 0; cell < cells; ++cell) {
    const std::size_t own = cell / 2;
    if (!bilinear) {
      taps.push_back({own, own, 1.0F, 0.0F});
    } else if (cell % 2 == 0) {  // a quarter before the centre of its own coarse cell
      taps.push_back({own == 0 ? 0 : own - 1, own, 0.25F, 0.75F});
    } else {
      taps.push_back({own, std::min(own + 1, last), 0.75F, 0.25F});
    }
  }
  return taps;
}

// Running maximum of q·m - |m|²/2 over the bank rows [first, last).
void PortableIndex::SearchRows(const std::vector<float>& panels2, const std::vector<float>& panels3,
                               std::size_t first, std::size_t last, Best& best) const {
  const std::size_t stride2 = Panels(height_ * width_) * kWide;
  const std::size_t stride3 = Panels(height_ * width_ / 4) * kWide;
  best.scores.assign(stride2, -std::numeric_limits<float>::infinity());
  best.rows.assign(stride2, static_cast<std::int32_t>(first));
  std::vector<float> coarse(kBlockRows * stride3), scores(kBlockRows * stride2, 0.0F);
  std::vector<float> wide(height_ / 2 * width_);
  for (std::size_t start = first; start < last; start += kBlockRows) {
    const std::size_t count = std::min(kBlockRows, last - start);
    std::fill(coarse.begin(), coarse.end(), 0.0F);
    AddBlockProducts(bank_.layer3 + start * bank_.channels3, count, bank_.channels3, panels3,
                     coarse);
    for (std::size_t row = 0; row < count; ++row) {
      Upsample(coarse.data() + row * stride3, -0.5F * bank_.norms[start + row], wide.data(),
               scores.data() + row * stride2);
    }
    AddBlockProducts(bank_.layer2 + start * bank_.channels2, count, bank_.channels2, panels2,
                     scores);
    for (std::size_t row = 0; row < count; ++row) {
      KeepBetter(scores.data() + row * stride2, static_cast<std::int32_t>(start + row), stride2,
                 best.scores.data(), best.rows.data());
    }
  }
}

// (h/2, w/2) -> (h, w), with `bias` added to every cell. Every coarse line is widened once.
//   wide       (h/2, w) of scratch
void PortableIndex::Upsample(const float* coarse, float bias, float* wide, float* fine) const {
  for (std::size_t y = 0; y < height_ / 2; ++y) {
    const float* line = coarse + y * (width_ / 2);
    for (std::size_t x = 0; x < width_; ++x) {
      const Taps& level = column_taps_[x];
      wide[y * width_ + x] =
          level.lower_weight * line[level.lower] + level.upper_weight * line[level.upper];
    }
  }
  for (std::size_t y = 0; y < height_; ++y) {
    const Taps& vertical = row_taps_[y];
    const float* above = wide + vertical.lower * width_;
    const float* below = wide + vertical.upper * width_;
    for (std::size_t x = 0; x < width_; ++x) {
      fine[y * width_ + x] =
          vertical.lower_weight * above[x] + vertical.upper_weight * below[x] + bias;
    }
  }
}

std::vector<float> PortableIndex::PatchVectors(const Tensor& layer2, const Tensor& layer3) const {
  CheckShape(layer2, "layer2", bank_.channels2, height_, width_);
  CheckShape(layer3, "layer3", bank_.channels3, height_ / 2, width_ / 2);
  const std::size_t patches = height_ * width_;
  const std::size_t size = bank_.channels2 + bank_.channels3;
  std::vector<float> vectors(patches * size), wide(patches / 2), fine(patches);
  for (std::size_t channel = 0; channel < size; ++channel) {
    const float* plane = layer2.values.data() + channel * patches;
    if (channel >= bank_.channels2) {
      Upsample(layer3.values.data() + (channel - bank_.channels2) * (patches / 4), 0.0F,
               wide.data(), fine.data());
      plane = fine.data();
    }
    for (std::size_t patch = 0; patch < patches; ++patch) {
      vectors[patch * size + channel] = plane[patch];
    }
  }
  return vectors;
}

float PortableIndex::Distance(const float* patch, std::size_t row) const {
  const float* row2 = bank_.layer2 + row * bank_.channels2;
  const float* row3 = bank_.layer3 + row * bank_.channels3;
  double sum = 0;
  for (std::size_t channel = 0; channel < bank_.channels2; ++channel) {
    const double difference = patch[channel] - row2[channel];
    sum += difference * difference;
  }
  for (std::size_t channel = 0; channel < bank_.channels3; ++channel) {
    const double difference = patch[bank_.channels2 + channel] - row3[channel];
    sum += difference * difference;
  }
  return static_cast<float>(std::sqrt(sum));
}

}  // namespace patchcore
