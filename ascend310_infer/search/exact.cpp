#include "search/exact.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "function_clones.hpp"
#include "manifest/upsampling.hpp"
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

}  // namespace

PortableIndex::PortableIndex(const MemoryBank& bank, const Layout& layout, std::size_t threads)
    : bank_(bank),
      layout_(layout),
      threads_(std::clamp<std::size_t>(threads, 1, (bank.rows + kBlockRows - 1) / kBlockRows)) {
  for (std::size_t i = 0; i < layout.layers.size(); ++i) {
    const LayerShape& shape = layout.layers[i];
    if (levels_.empty() || levels_.back().shape.stride != shape.stride) {
      levels_.push_back({i, i, shape, {}, {}});
      if (shape.stride > 1) {
        levels_.back().row_taps = MakeTaps(layout.Height(), shape.height, layout.upsampling);
        levels_.back().column_taps = MakeTaps(layout.Width(), shape.width, layout.upsampling);
      }
    }
    levels_.back().last = i + 1;
  }
}

std::vector<PortableIndex::Taps> PortableIndex::MakeTaps(std::size_t size, std::size_t cells,
                                                         Upsampling mode) {
  std::vector<Taps> all;
  for (std::size_t target = 0; target < size; ++target) {
    const UpsamplingTaps taps = TapsOf(target, size, cells, mode);
    all.push_back({taps.lower, taps.upper, static_cast<float>(1 - taps.share),
                   static_cast<float>(taps.share)});
  }
  return all;
}

NearestRows PortableIndex::Nearest(const Layers& layers) const {
  CheckShapes(layers);
  const std::size_t patches = layout_.Patches();
  std::vector<std::vector<float>> panels;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const LayerShape& shape = layout_.layers[i];
    panels.push_back(PackPanels(layers[i].values.data(), shape.channels, shape.Cells()));
  }
  std::vector<Best> found(threads_);
  InShares(bank_.rows, threads_, [&](std::size_t first, std::size_t last, std::size_t part) {
    SearchRows(panels, first, last, found[part]);
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
  const std::vector<float> vectors = PatchVectors(layers);
  const std::size_t size = bank_.Size();  // D
  InShares(patches, threads_, [&](std::size_t first, std::size_t last, std::size_t) {
    for (std::size_t patch = first; patch < last; ++patch) {
      nearest.distances[patch] =
          Distance(vectors.data() + patch * size, static_cast<std::size_t>(nearest.rows[patch]));
    }
  });
  return nearest;
}

void PortableIndex::CheckShapes(const Layers& layers) const {
  bool fits = layers.size() == layout_.layers.size() && layers.size() == bank_.layers.size();
  for (std::size_t i = 0; fits && i < layers.size(); ++i) {
    const LayerShape& shape = layout_.layers[i];
    fits = layers[i].shape == BatchShape(shape, 1) &&
           layers[i].values.size() == shape.channels * shape.Cells() &&
           bank_.layers[i].channels == shape.channels;
  }
  if (!fits) throw std::invalid_argument("layers: not the shapes of this index");
}

// Running maximum of q·m - |m|²/2 over the bank rows [first, last).
void PortableIndex::SearchRows(const std::vector<std::vector<float>>& panels, std::size_t first,
                               std::size_t last, Best& best) const {
  const std::size_t stride = Panels(layout_.Patches()) * kWide;
  best.scores.assign(stride, -std::numeric_limits<float>::infinity());
  best.rows.assign(stride, static_cast<std::int32_t>(first));
  std::vector<float> coarse, scores(kBlockRows * stride, 0.0F);
  std::vector<float> wide(layout_.Patches());
  for (std::size_t start = first; start < last; start += kBlockRows) {
    const std::size_t count = std::min(kBlockRows, last - start);
    // The coarsest layers come first, with -|m|²/2; those of stride 1 are added on top.
    if (levels_.size() == 1) {
      for (std::size_t row = 0; row < count; ++row) {
        std::fill_n(scores.data() + row * stride, stride, -0.5F * bank_.norms[start + row]);
      }
    }
    for (std::size_t i = levels_.size() - 1; i > 0; --i) {
      const Level& level = levels_[i];
      const std::size_t coarse_stride = Panels(level.shape.Cells()) * kWide;
      coarse.assign(kBlockRows * coarse_stride, 0.0F);
      AddLevel(level, panels, start, count, coarse);
      for (std::size_t row = 0; row < count; ++row) {
        const float* products = coarse.data() + row * coarse_stride;
        float* fine = scores.data() + row * stride;
        if (i + 1 == levels_.size()) {
          Upsample<false>(level, products, -0.5F * bank_.norms[start + row], wide.data(), fine);
        } else {
          Upsample<true>(level, products, 0.0F, wide.data(), fine);
        }
      }
    }
    AddLevel(levels_.front(), panels, start, count, scores);
    for (std::size_t row = 0; row < count; ++row) {
      KeepBetter(scores.data() + row * stride, static_cast<std::int32_t>(start + row), stride,
                 best.scores.data(), best.rows.data());
    }
  }
}

// Adds the products of `count` rows with the layers of one stride, on their own grid.
void PortableIndex::AddLevel(const Level& level, const std::vector<std::vector<float>>& panels,
                             std::size_t start, std::size_t count,
                             std::vector<float>& products) const {
  for (std::size_t layer = level.first; layer < level.last; ++layer) {
    const MemoryBank::Part& part = bank_.layers[layer];
    AddBlockProducts(part.Row(start), count, part.channels, panels[layer], products);
  }
}

// (h/s, w/s) -> (h, w), with `bias` added to every cell. Every coarse line is widened once.
//   wide       (h/s, w) of scratch
//   adds       to what is in `fine`, rather than in its place
template <bool adds>
void PortableIndex::Upsample(const Level& level, const float* coarse, float bias, float* wide,
                             float* fine) const {
  const std::size_t width = layout_.Width();
  for (std::size_t y = 0; y < level.shape.height; ++y) {
    const float* line = coarse + y * level.shape.width;
    for (std::size_t x = 0; x < width; ++x) {
      const Taps& taps = level.column_taps[x];
      wide[y * width + x] =
          taps.lower_weight * line[taps.lower] + taps.upper_weight * line[taps.upper];
    }
  }
  for (std::size_t y = 0; y < layout_.Height(); ++y) {
    const Taps& vertical = level.row_taps[y];
    const float* above = wide + vertical.lower * width;
    const float* below = wide + vertical.upper * width;
    for (std::size_t x = 0; x < width; ++x) {
      const float value =
          vertical.lower_weight * above[x] + vertical.upper_weight * below[x] + bias;
      fine[y * width + x] = adds ? fine[y * width + x] + value : value;
    }
  }
}

std::vector<float> PortableIndex::PatchVectors(const Layers& layers) const {
  CheckShapes(layers);
  const std::size_t patches = layout_.Patches(), size = bank_.Size();
  std::vector<float> vectors(patches * size), wide(patches), fine(patches);
  std::size_t place = 0;  // of a channel in a vector
  for (const Level& level : levels_) {
    const std::size_t cells = level.shape.Cells();
    for (std::size_t layer = level.first; layer < level.last; ++layer) {
      for (std::size_t channel = 0; channel < layout_.layers[layer].channels; ++channel, ++place) {
        const float* plane = layers[layer].values.data() + channel * cells;
        if (level.shape.stride > 1) {
          Upsample<false>(level, plane, 0.0F, wide.data(), fine.data());
          plane = fine.data();
        }
        for (std::size_t patch = 0; patch < patches; ++patch) {
          vectors[patch * size + place] = plane[patch];
        }
      }
    }
  }
  return vectors;
}

float PortableIndex::Distance(const float* patch, std::size_t row) const {
  return static_cast<float>(std::sqrt(SquaredDistance(bank_, patch, row)));
}

}  // namespace patchcore
