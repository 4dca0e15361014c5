// The portable search against brute force in double precision.
#include "search/exact.hpp"

#include <cmath>
#include <limits>
#include <stdexcept>

#include "tests/support/catch.hpp"
#include "tests/support/drawn_layers.hpp"

namespace {

using patchcore::Layers;
using patchcore::LayerShape;
using patchcore::Layout;
using patchcore::MemoryBank;
using patchcore::NearestRows;
using patchcore::PortableIndex;
using patchcore::Upsampling;

// A bank and one image's layers with seeded normal values.
struct Case : DrawnLayers {
  Case(const Layout& of, std::size_t rows, unsigned seed) : DrawnLayers(of, rows, seed, 0, 1) {}

  // A channel of a layer at a cell of the patch grid, by the definition of FORMAT.md.
  double Fine(std::size_t layer, std::size_t channel, std::size_t y, std::size_t x) const {
    const LayerShape& shape = layout.layers[layer];
    const auto at = [&](double row, double column) {
      const auto place = [](double value, std::size_t count) {
        return static_cast<std::size_t>(
            std::min(std::max(value, 0.0), static_cast<double>(count - 1)));
      };
      const std::size_t cell = place(row, shape.height) * shape.width + place(column, shape.width);
      return static_cast<double>(layers[layer].values[channel * shape.Cells() + cell]);
    };
    if (layout.upsampling == Upsampling::kNearest) {
      return at(static_cast<double>(y / shape.stride), static_cast<double>(x / shape.stride));
    }
    const auto stride = static_cast<double>(shape.stride);
    const double row = (static_cast<double>(y) + 0.5) / stride - 0.5, top = std::floor(row);
    const double column = (static_cast<double>(x) + 0.5) / stride - 0.5, left = std::floor(column);
    const double down = row - top, right = column - left;
    return (1 - down) * ((1 - right) * at(top, left) + right * at(top, left + 1)) +
           down * ((1 - right) * at(top + 1, left) + right * at(top + 1, left + 1));
  }

  double Distance(std::size_t patch, std::size_t row) const {
    double sum = 0;
    for (std::size_t layer = 0; layer < layers.size(); ++layer) {
      const std::size_t channels = layout.layers[layer].channels;
      for (std::size_t c = 0; c < channels; ++c) {
        const double difference = Fine(layer, c, patch / layout.Width(), patch % layout.Width()) -
                                  static_cast<double>(rows[layer][row * channels + c]);
        sum += difference * difference;
      }
    }
    return std::sqrt(sum);
  }
};

Layout Two(std::size_t channels2, std::size_t channels3, std::size_t height, std::size_t width,
           Upsampling upsampling = Upsampling::kBilinear) {
  return LayoutOf({{channels2, 1}, {channels3, 2}}, height, width, upsampling);
}

}  // namespace

TEST_CASE("the search finds what brute force in double precision finds") {
  const auto [count, channels, height, width] =
      GENERATE(table<std::size_t, std::vector<Sizes>, std::size_t, std::size_t>({
          {1, {{1, 1}, {1, 2}}, 4, 4},
          {5, {{3, 1}, {4, 2}}, 6, 10},
          {48, {{8, 1}, {12, 2}}, 8, 8},
          {49, {{7, 1}, {5, 2}}, 4, 6},
          {217, {{16, 1}, {32, 2}}, 10, 14},
          {50, {{9, 1}}, 5, 7},                           // one layer, any grid
          {50, {{4, 1}, {6, 1}}, 5, 7},                   // both on the patch grid
          {61, {{4, 1}, {6, 2}, {5, 4}}, 8, 12},          // three grids
          {50, {{4, 1}, {6, 3}, {5, 6}}, 12, 6},          // strides that are no powers of two
          {53, {{4, 1}, {6, 2}, {5, 2}, {3, 4}}, 8, 4},   // two of one stride
          {53, {{4, 1}, {2, 1}, {5, 5}, {3, 5}}, 5, 10},  // one cell high
      }));
  const Upsampling upsampling = GENERATE(Upsampling::kBilinear, Upsampling::kNearest);
  Case drawn(LayoutOf(channels, height, width, upsampling), count, 7);
  const MemoryBank bank = drawn.Bank();
  const PortableIndex index(bank, drawn.layout, 2);
  const NearestRows nearest = index.Nearest(drawn.layers);
  REQUIRE(nearest.rows.size() == height * width);
  for (std::size_t patch = 0; patch < nearest.rows.size(); ++patch) {
    double smallest = std::numeric_limits<double>::infinity();
    for (std::size_t row = 0; row < count; ++row) {
      smallest = std::min(smallest, drawn.Distance(patch, row));
    }
    const auto found = static_cast<std::size_t>(nearest.rows[patch]);
    REQUIRE(found < count);
    REQUIRE(drawn.Distance(patch, found) <= smallest * (1 + 1e-6));
    REQUIRE(std::abs(static_cast<double>(nearest.distances[patch]) - smallest) <= 1e-6 * smallest);
  }
}

TEST_CASE("a patch vector has the channels of every layer in turn, at the patch grid") {
  const Case drawn(LayoutOf({{2, 1}, {3, 2}, {2, 4}}, 4, 8, Upsampling::kBilinear), 3, 2);
  const MemoryBank bank = drawn.Bank();
  const auto vectors = PortableIndex(bank, drawn.layout, 1).PatchVectors(drawn.layers);
  REQUIRE(vectors.size() == 32 * 7);
  for (std::size_t patch = 0; patch < 32; ++patch) {
    std::size_t place = patch * 7;
    for (std::size_t layer = 0; layer < 3; ++layer) {
      for (std::size_t c = 0; c < drawn.layout.layers[layer].channels; ++c, ++place) {
        REQUIRE(vectors[place] == Approx(drawn.Fine(layer, c, patch / 8, patch % 8)).margin(1e-6));
      }
    }
  }
}

TEST_CASE("of equal rows the first wins, whichever thread or block they fall to") {
  const auto layout = GENERATE(Two(6, 9, 8, 8), LayoutOf({{9, 1}}, 8, 8));
  Case drawn(layout, 1, 3);
  for (std::vector<float>& rows : drawn.rows) {
    const std::vector<float> row = rows;
    rows.assign(row.size(), 90.0F);  // row 0 is farther than the copies in rows 1 to 211
    for (int copy = 0; copy < 211; ++copy) rows.insert(rows.end(), row.begin(), row.end());
  }
  const MemoryBank bank = drawn.Bank();
  for (const std::size_t threads : {1U, 2U, 5U}) {
    const PortableIndex index(bank, drawn.layout, threads);
    for (const std::int64_t row : index.Nearest(drawn.layers).rows) REQUIRE(row == 1);
  }
}

TEST_CASE("the number of threads does not change a bit of the result") {
  const auto layout =
      GENERATE(Two(24, 40, 12, 12), LayoutOf({{24, 1}, {12, 2}, {40, 4}, {8, 4}}, 12, 12));
  const Case drawn(layout, 500, 5);
  const MemoryBank bank = drawn.Bank();
  const NearestRows one = PortableIndex(bank, drawn.layout, 1).Nearest(drawn.layers);
  for (const std::size_t threads : {2U, 3U, 64U}) {
    const NearestRows many = PortableIndex(bank, drawn.layout, threads).Nearest(drawn.layers);
    REQUIRE(many.rows == one.rows);
    REQUIRE(many.distances == one.distances);
  }
}

TEST_CASE("a patch that is in the bank is found at distance zero") {
  Case drawn(Two(512, 256, 4, 4, Upsampling::kNearest), 60, 11);
  const std::size_t target = 37, patch = 5;
  // Values around 1000 make q·m - |m|²/2 cancel: only the recomputed difference can be zero.
  for (float& value : drawn.layers[0].values) value = 1000 + value;
  for (std::size_t layer = 0; layer < 2; ++layer) {
    const std::size_t channels = drawn.layout.layers[layer].channels;
    for (std::size_t c = 0; c < channels; ++c) {
      drawn.rows[layer][target * channels + c] =
          static_cast<float>(drawn.Fine(layer, c, patch / 4, patch % 4));
    }
  }
  const MemoryBank bank = drawn.Bank();
  const NearestRows nearest = PortableIndex(bank, drawn.layout, 2).Nearest(drawn.layers);
  REQUIRE(nearest.rows[patch] == static_cast<std::int64_t>(target));
  REQUIRE(nearest.distances[patch] == 0.0F);
}

TEST_CASE("layers of another shape or number are refused") {
  const Case drawn(Two(3, 4, 6, 10), 5, 1);
  const MemoryBank bank = drawn.Bank();
  const PortableIndex index(bank, drawn.layout, 1);
  Layers turned = drawn.layers, short_one = drawn.layers, fewer = drawn.layers;
  std::swap(turned[0].shape[2], turned[0].shape[3]);
  short_one[1].values.pop_back();
  fewer.pop_back();
  for (const Layers& layers : {turned, short_one, fewer}) {
    REQUIRE_THROWS_AS(index.Nearest(layers), std::invalid_argument);
    REQUIRE_THROWS_AS(index.PatchVectors(layers), std::invalid_argument);
  }
}
