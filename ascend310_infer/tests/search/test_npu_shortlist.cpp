// Laws of the host's half of a search on an NPU: whatever the device rounds, the rows are exact.
#include "search/npu_shortlist.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>

#include "errors.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/drawn_layers.hpp"
#include "tests/support/scratch.hpp"

namespace {

using patchcore::BackendError;
using patchcore::Candidates;
using patchcore::Layers;
using patchcore::NearestRows;
using patchcore::Queries;
using patchcore::Shortlist;
using patchcore::Upsampling;

constexpr std::size_t kChannels2 = 5, kChannels3 = 7, kHeight = 4, kWidth = 6;
constexpr std::size_t kPatches = kHeight * kWidth;

// A bank and one image's layers, around a mean far from the origin, as after a ReLU.
struct Case : DrawnLayers {
  Case(std::size_t rows_wanted, unsigned seed, float spread = 1.0F)
      : Case(LayoutOf({{kChannels2, 1}, {kChannels3, 2}}, kHeight, kWidth,
                      seed % 2 == 0 ? Upsampling::kBilinear : Upsampling::kNearest),
             rows_wanted, seed, spread) {}
  Case(const patchcore::Layout& of, std::size_t rows_wanted, unsigned seed, float spread = 1.0F)
      : DrawnLayers(of, rows_wanted, seed, 3, spread) {}

  Shortlist List(std::size_t count) const { return {Bank(), layout, count, 1}; }
};

// A device that knows the bank as the host does: asked about the rows themselves, it has m'.
// With `noise` every score is off by that share of half's rounding.
Candidates Answer(Case& c, const Queries& queries, std::size_t wanted, double noise = 0) {
  const patchcore::MemoryBank bank = c.Bank();
  const std::size_t size = bank.Size(), columns = size + 4;
  std::uniform_real_distribution<double> shake(-noise / 2048, noise / 2048);
  std::vector<Queries> rows;
  Shortlist own = c.List(wanted);
  for (std::size_t row = 0; row < bank.rows; ++row) {  // one row on every cell of an image
    Layers image;
    for (std::size_t layer = 0; layer < c.layers.size(); ++layer) {
      const patchcore::LayerShape& shape = c.layout.layers[layer];
      image.push_back({c.layers[layer].shape, {}});
      for (std::size_t i = 0; i < shape.channels; ++i) {
        const float value = c.rows[layer][row * shape.channels + i];
        image.back().values.insert(image.back().values.end(), shape.Cells(), value);
      }
    }
    rows.push_back(own.Ask(image));
  }
  Candidates answer;
  for (std::size_t patch = 0; patch < kPatches; ++patch) {
    std::vector<std::pair<double, std::int32_t>> all;
    for (std::size_t row = 0; row < bank.rows; ++row) {
      double square = 0;
      for (std::size_t i = 0; i < size; ++i) {
        const double side = static_cast<double>(queries.columns.values[patch * columns + i]) -
                            static_cast<double>(rows[row].columns.values[i]);
        square += side * side;
      }
      all.emplace_back(square / 2 * (1 + shake(c.random)), static_cast<std::int32_t>(row));
    }
    std::sort(all.begin(), all.end());
    for (std::size_t i = 0; i < wanted; ++i) {
      answer.scores.push_back(static_cast<float>(-all[i].first));
      answer.rows.push_back(all[i].second);
    }
  }
  return answer;
}

void RequireExact(Case& c, const NearestRows& got) {
  const patchcore::PortableIndex index(c.Bank(), c.layout, 1);
  const NearestRows exact = index.Nearest(c.layers);
  REQUIRE(got.rows == exact.rows);
  REQUIRE(got.distances == exact.distances);
}

}  // namespace

TEST_CASE("a shortlist gives exactly what the exact search gives, however few rows it has") {
  const unsigned seed = GENERATE(range(0U, 4U));
  const std::size_t wanted = GENERATE(1, 2, 8, 40);
  Case c(40, seed);
  Shortlist list = c.List(wanted);
  const Queries queries = list.Ask(c.layers);
  RequireExact(c, list.Rank(queries, Answer(c, queries, wanted), c.layers));
  REQUIRE(list.patches() == kPatches);
  if (wanted == 1) REQUIRE(list.searched() == kPatches);  // one row cannot prove itself
  if (wanted == 8) REQUIRE(list.searched() < kPatches / 4);
  if (wanted == 40) REQUIRE(list.searched() == 0);
}

TEST_CASE("a shortlist of one, three or four layers gives what the exact search gives") {
  const auto layers =
      GENERATE(std::vector<Sizes>{{9, 1}}, std::vector<Sizes>{{4, 1}, {5, 1}, {3, 2}},
               std::vector<Sizes>{{4, 1}, {5, 2}, {2, 2}, {3, 2}});
  Case c(LayoutOf(layers, kHeight, kWidth), 40, 5);
  Shortlist list = c.List(8);
  const Queries queries = list.Ask(c.layers);
  RequireExact(c, list.Rank(queries, Answer(c, queries, 8), c.layers));
  REQUIRE(list.searched() < kPatches / 4);
}

TEST_CASE("rounding by the device changes no row, even where rows are hardly apart") {
  const unsigned seed = GENERATE(range(0U, 6U));
  Case c(300, seed, 0.5F);
  std::normal_distribution<float> small(0.0F, 0.0005F);
  for (std::size_t i = kChannels2; i < c.rows[0].size(); ++i) {  // three families of near rows
    if (i / kChannels2 > 2) c.rows[0][i] = c.rows[0][i % (3 * kChannels2)] + small(c.random);
  }
  for (std::size_t i = 3 * kChannels3; i < c.rows[1].size(); ++i) {
    c.rows[1][i] = c.rows[1][i % (3 * kChannels3)] + small(c.random);
  }
  Shortlist list = c.List(4);
  const Queries queries = list.Ask(c.layers);
  RequireExact(c, list.Rank(queries, Answer(c, queries, 4, 0.99), c.layers));
  REQUIRE(list.searched() > 0);
}

TEST_CASE("of equal rows the first wins, in the list and outside of it") {
  const std::size_t wanted = GENERATE(2, 8);
  Case c(10, 0);
  for (int copy = 0; copy < 2; ++copy) {  // every row three times
    c.rows[0].insert(c.rows[0].end(), c.rows[0].begin(), c.rows[0].begin() + 10 * kChannels2);
    c.rows[1].insert(c.rows[1].end(), c.rows[1].begin(), c.rows[1].begin() + 10 * kChannels3);
  }
  Shortlist list = c.List(wanted);
  const Queries queries = list.Ask(c.layers);
  Candidates answer = Answer(c, queries, wanted);
  for (std::size_t i = 0; i + 1 < answer.rows.size() && wanted == 2; i += 2) {
    answer.rows[i] = answer.rows[i] % 10 + 10;  // the first of three is not listed
    answer.rows[i + 1] = answer.rows[i] + 10;
  }
  if (GENERATE(false, true)) {  // a device may list equal scores in any order
    for (std::size_t patch = 0; patch < kPatches; ++patch) {
      const auto first = static_cast<std::ptrdiff_t>(patch * wanted);
      const auto last = first + static_cast<std::ptrdiff_t>(wanted);
      std::reverse(answer.rows.begin() + first, answer.rows.begin() + last);
      std::reverse(answer.scores.begin() + first, answer.scores.begin() + last);
    }
  }
  RequireExact(c, list.Rank(queries, answer, c.layers));
}

TEST_CASE("scores that are off by as much as halves round still prove most patches") {
  Case c(40, GENERATE(range(0U, 4U)));
  Shortlist list = c.List(8);
  const Queries queries = list.Ask(c.layers);
  RequireExact(c, list.Rank(queries, Answer(c, queries, 8, 0.99), c.layers));
  REQUIRE(list.searched() < kPatches / 4);
}

TEST_CASE("a nearer row whose score rounds to the listed ones' is found") {
  Case c(4, 0);
  // Squared lengths 9973 and 9974; both halves, scaled by 1/8, are 77.9375 in half precision.
  c.rows[0] = {99, 13, 1, 1, 1, -99, -13, -1, -1, -1, 99, 13, 2, 0, 0, -99, -13, -2, 0, 0};
  std::fill(c.rows[1].begin(), c.rows[1].end(), 0.0F);
  std::fill(c.layers[0].values.begin(), c.layers[0].values.end(), 0.0F);
  std::fill(c.layers[1].values.begin(), c.layers[1].values.end(), 0.0F);
  Shortlist list = c.List(2);
  Candidates answer{std::vector<float>(2 * kPatches, -77.9375F), {}};
  for (std::size_t patch = 0; patch < kPatches; ++patch) {
    answer.rows.insert(answer.rows.end(), {2, 3});
  }
  const auto got = list.Rank(list.Ask(c.layers), answer, c.layers);
  REQUIRE(got.rows == std::vector<std::int64_t>(kPatches, 0));
  REQUIRE(list.searched() == kPatches);
}

TEST_CASE("a score rounded to half proves a row where the others are far") {
  Case c(4, 0);
  c.rows[0] = {99, 13, 1, 1, 1, -99, -13, -1, -1, -1, 99, 60, 2, 0, 0, -99, -60, -2, 0, 0};
  std::fill(c.rows[1].begin(), c.rows[1].end(), 0.0F);
  std::fill(c.layers[0].values.begin(), c.layers[0].values.end(), 0.0F);
  std::fill(c.layers[1].values.begin(), c.layers[1].values.end(), 0.0F);
  Shortlist list = c.List(3);
  Candidates answer;
  for (std::size_t patch = 0; patch < kPatches; ++patch) {
    // 9973 / 128 = 77.914 and 13405 / 128 = 104.727, in half precision
    answer.scores.insert(answer.scores.end(), {-77.9375F, -77.9375F, -104.75F});
    answer.rows.insert(answer.rows.end(), {0, 1, 2});
  }
  const auto got = list.Rank(list.Ask(c.layers), answer, c.layers);
  REQUIRE(got.rows == std::vector<std::int64_t>(kPatches, 0));
  REQUIRE(list.searched() == 0);
}

TEST_CASE("every value sent is a half, and what is too far for halves is not asked") {
  Case c(20, 1);
  c.layers[0].values[0] = 1e6F;
  c.layers[0].values[1] = std::numeric_limits<float>::infinity();
  Shortlist list = c.List(20);
  const Queries queries = list.Ask(c.layers);
  for (const float value : queries.columns.values) {
    const auto units = static_cast<double>(value) * 16384;  // 2^14
    const double step = std::exp2(std::max(0.0, std::floor(std::log2(std::abs(units))))) / 1024;
    REQUIRE((value == 0 || std::fmod(std::abs(units), step) == 0));
  }
  REQUIRE(std::isinf(queries.lengths[0]));
  REQUIRE(std::isinf(queries.lengths[1]));
  list.Rank(queries, Answer(c, queries, 20), c.layers);
  REQUIRE(list.searched() == 2);
}

TEST_CASE("scores that no rounding explains send the host to search") {
  Case c(40, 2);
  Shortlist list = c.List(8);
  const Queries queries = list.Ask(c.layers);
  Candidates answer = Answer(c, queries, 8);
  for (float& score : answer.scores) score *= GENERATE(0.9F, 1.1F);
  RequireExact(c, list.Rank(queries, answer, c.layers));
  REQUIRE(list.searched() == kPatches);
}

TEST_CASE("a list that cannot be one is refused in one line") {
  Case c(40, 3);
  Shortlist list = c.List(8);
  const Queries queries = list.Ask(c.layers);
  Candidates answer = Answer(c, queries, 8);
  const auto refusal = [&] {
    return Refusal<BackendError>([&] { list.Rank(queries, answer, c.layers); });
  };
  SECTION("a row below the bank") {
    answer.rows[9] = -1;
    REQUIRE(Mentions(refusal(), "index.mindir: patch 1: expected rows 0 to 39, got -1"));
  }
  SECTION("a row above it") {
    answer.rows[0] = 40;
    REQUIRE(Mentions(refusal(), "patch 0: expected rows 0 to 39, got 40"));
  }
  SECTION("a row twice") {
    answer.rows[1] = answer.rows[0];
    answer.scores[1] = answer.scores[0];
    REQUIRE(Mentions(refusal(), "expected different rows, got row"));
  }
  SECTION("no number") {
    answer.scores[191] = std::numeric_limits<float>::quiet_NaN();
    REQUIRE(Mentions(refusal(), "patch 23: expected finite scores"));
    REQUIRE(Mentions(refusal(), "--search portable"));
  }
}
