// The portable search against brute force in double precision.
#include "search/exact.hpp"

#include <cmath>
#include <limits>
#include <random>
#include <stdexcept>

#include "tests/support/catch.hpp"

namespace {

using patchcore::Features;
using patchcore::MemoryBank;
using patchcore::NearestRows;
using patchcore::PortableIndex;
using patchcore::Tensor;
using patchcore::Upsampling;

struct Sizes {
  std::size_t rows, channels2, channels3, height, width;
};

// A bank and one image's layers with seeded normal values.
struct Case {
  Case(const Sizes& sizes, Upsampling upsampling, unsigned seed) : random(seed) {
    features.layer2 = {sizes.channels2, sizes.height, sizes.width};
    features.layer3 = {sizes.channels3, sizes.height / 2, sizes.width / 2};
    features.layer3_upsampling = upsampling;
    rows2 = Draw(sizes.rows * sizes.channels2);
    rows3 = Draw(sizes.rows * sizes.channels3);
    layer2 = DrawTensor(features.layer2);
    layer3 = DrawTensor(features.layer3);
  }

  std::vector<float> Draw(std::size_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& value : values) value = normal(random);
    return values;
  }

  Tensor DrawTensor(const patchcore::LayerShape& shape) {
    const auto side = [](std::size_t value) { return static_cast<std::int64_t>(value); };
    return {{1, side(shape.channels), side(shape.height), side(shape.width)},
            Draw(shape.channels * shape.height * shape.width)};
  }

  MemoryBank Bank() {
    MemoryBank bank;
    bank.channels2 = features.layer2.channels;
    bank.channels3 = features.layer3.channels;
    bank.rows = rows2.size() / bank.channels2;
    norms.assign(bank.rows, 0.0F);
    for (std::size_t i = 0; i < rows2.size(); ++i) norms[i / bank.channels2] += rows2[i] * rows2[i];
    for (std::size_t i = 0; i < rows3.size(); ++i) norms[i / bank.channels3] += rows3[i] * rows3[i];
    bank.layer2 = rows2.data();
    bank.layer3 = rows3.data();
    bank.norms = norms.data();
    return bank;
  }

  // Layer3's value of a channel at a cell of layer2's grid, by the definition of FORMAT.md.
  double Fine(std::size_t channel, std::size_t y, std::size_t x) const {
    const std::size_t height = features.layer3.height, width = features.layer3.width;
    const auto at = [&](double row, double column) {
      const auto place = [](double value, std::size_t count) {
        return static_cast<std::size_t>(
            std::min(std::max(value, 0.0), static_cast<double>(count - 1)));
      };
      return static_cast<double>(
          layer3.values[(channel * height + place(row, height)) * width + place(column, width)]);
    };
    if (features.layer3_upsampling == Upsampling::kNearest) {
      return at(static_cast<double>(y / 2), static_cast<double>(x / 2));
    }
    const double row = (static_cast<double>(y) + 0.5) / 2 - 0.5, top = std::floor(row);
    const double column = (static_cast<double>(x) + 0.5) / 2 - 0.5, left = std::floor(column);
    const double down = row - top, right = column - left;
    return (1 - down) * ((1 - right) * at(top, left) + right * at(top, left + 1)) +
           down * ((1 - right) * at(top + 1, left) + right * at(top + 1, left + 1));
  }

  double Distance(std::size_t patch, std::size_t row) const {
    const std::size_t width = features.layer2.width, height = features.layer2.height;
    double sum = 0;
    for (std::size_t c = 0; c < features.layer2.channels; ++c) {
      const double difference = static_cast<double>(layer2.values[c * height * width + patch]) -
                                static_cast<double>(rows2[row * features.layer2.channels + c]);
      sum += difference * difference;
    }
    for (std::size_t c = 0; c < features.layer3.channels; ++c) {
      const double difference = Fine(c, patch / width, patch % width) -
                                static_cast<double>(rows3[row * features.layer3.channels + c]);
      sum += difference * difference;
    }
    return std::sqrt(sum);
  }

  std::mt19937 random;
  Features features;
  std::vector<float> rows2, rows3, norms;
  Tensor layer2, layer3;
};

}  // namespace

TEST_CASE("the search finds what brute force in double precision finds") {
  const Sizes sizes = GENERATE(Sizes{1, 1, 1, 4, 4}, Sizes{5, 3, 4, 6, 10}, Sizes{48, 8, 12, 8, 8},
                               Sizes{49, 7, 5, 4, 6}, Sizes{217, 16, 32, 10, 14});
  const Upsampling upsampling = GENERATE(Upsampling::kBilinear, Upsampling::kNearest);
  Case drawn(sizes, upsampling, 7);
  const MemoryBank bank = drawn.Bank();
  const PortableIndex index(bank, drawn.features, 2);
  const NearestRows nearest = index.Nearest(drawn.layer2, drawn.layer3);
  REQUIRE(nearest.rows.size() == sizes.height * sizes.width);
  for (std::size_t patch = 0; patch < nearest.rows.size(); ++patch) {
    double smallest = std::numeric_limits<double>::infinity();
    for (std::size_t row = 0; row < sizes.rows; ++row) {
      smallest = std::min(smallest, drawn.Distance(patch, row));
    }
    const auto found = static_cast<std::size_t>(nearest.rows[patch]);
    REQUIRE(found < sizes.rows);
    REQUIRE(drawn.Distance(patch, found) <= smallest * (1 + 1e-6));
    REQUIRE(std::abs(static_cast<double>(nearest.distances[patch]) - smallest) <= 1e-6 * smallest);
  }
}

TEST_CASE("of equal rows the first wins, whichever thread or block they fall to") {
  const std::size_t copies = 211;
  Case drawn({1, 6, 9, 8, 8}, Upsampling::kBilinear, 3);
  const std::vector<float> row2 = drawn.rows2, row3 = drawn.rows3;
  const std::vector<float> far2(row2.size(), 90.0F), far3(row3.size(), 90.0F);
  drawn.rows2 = far2;  // row 0 is farther than the copies in rows 1 to 211
  drawn.rows3 = far3;
  for (std::size_t copy = 0; copy < copies; ++copy) {
    drawn.rows2.insert(drawn.rows2.end(), row2.begin(), row2.end());
    drawn.rows3.insert(drawn.rows3.end(), row3.begin(), row3.end());
  }
  const MemoryBank bank = drawn.Bank();
  for (const std::size_t threads : {1U, 2U, 5U}) {
    const PortableIndex index(bank, drawn.features, threads);
    for (const std::int64_t row : index.Nearest(drawn.layer2, drawn.layer3).rows) REQUIRE(row == 1);
  }
}

TEST_CASE("the number of threads does not change a bit of the result") {
  Case drawn({500, 24, 40, 12, 12}, Upsampling::kBilinear, 5);
  const MemoryBank bank = drawn.Bank();
  const NearestRows one =
      PortableIndex(bank, drawn.features, 1).Nearest(drawn.layer2, drawn.layer3);
  for (const std::size_t threads : {2U, 3U, 64U}) {
    const NearestRows many =
        PortableIndex(bank, drawn.features, threads).Nearest(drawn.layer2, drawn.layer3);
    REQUIRE(many.rows == one.rows);
    REQUIRE(many.distances == one.distances);
  }
}

TEST_CASE("a patch that is in the bank is found at distance zero") {
  Case drawn({60, 512, 256, 4, 4}, Upsampling::kNearest, 11);
  const std::size_t target = 37, patch = 5;
  // Values around 1000 make q·m - |m|²/2 cancel: only the recomputed difference can be zero.
  for (float& value : drawn.layer2.values) value = 1000 + value;
  for (std::size_t c = 0; c < 512; ++c) {
    drawn.rows2[target * 512 + c] = drawn.layer2.values[c * 16 + patch];
  }
  for (std::size_t c = 0; c < 256; ++c) {
    drawn.rows3[target * 256 + c] = static_cast<float>(drawn.Fine(c, patch / 4, patch % 4));
  }
  const MemoryBank bank = drawn.Bank();
  const NearestRows nearest =
      PortableIndex(bank, drawn.features, 2).Nearest(drawn.layer2, drawn.layer3);
  REQUIRE(nearest.rows[patch] == static_cast<std::int64_t>(target));
  REQUIRE(nearest.distances[patch] == 0.0F);
}

TEST_CASE("layers of another shape are refused") {
  Case drawn({5, 3, 4, 6, 10}, Upsampling::kBilinear, 1);
  const MemoryBank bank = drawn.Bank();
  const PortableIndex index(bank, drawn.features, 1);
  Tensor turned = drawn.layer2;
  std::swap(turned.shape[2], turned.shape[3]);
  REQUIRE_THROWS_AS(index.Nearest(turned, drawn.layer3), std::invalid_argument);
  Tensor short_one = drawn.layer3;
  short_one.values.pop_back();
  REQUIRE_THROWS_AS(index.Nearest(drawn.layer2, short_one), std::invalid_argument);
}
