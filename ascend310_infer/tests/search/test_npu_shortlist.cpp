// Laws of the host's half of a search on an NPU: whatever the device rounds, the rows are exact.
#include "search/npu_shortlist.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "errors.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/scratch.hpp"

namespace {

using patchcore::BackendError;
using patchcore::Candidates;
using patchcore::NearestRows;
using patchcore::Queries;
using patchcore::Shortlist;
using patchcore::Tensor;
using patchcore::Upsampling;

constexpr std::size_t kChannels2 = 5, kChannels3 = 7, kHeight = 4, kWidth = 6;
constexpr std::size_t kPatches = kHeight * kWidth, kSize = kChannels2 + kChannels3;

// A bank and one image's layers, around a mean far from the origin, as after a ReLU.
struct Case {
  Case(std::size_t rows, unsigned seed, float spread = 1.0F) : random(seed), width(spread) {
    features.layer2 = {kChannels2, kHeight, kWidth};
    features.layer3 = {kChannels3, kHeight / 2, kWidth / 2};
    features.layer3_upsampling = seed % 2 == 0 ? Upsampling::kBilinear : Upsampling::kNearest;
    rows2 = Draw(rows * kChannels2);
    rows3 = Draw(rows * kChannels3);
    layer2 = {{1, kChannels2, kHeight, kWidth}, Draw(kChannels2 * kPatches)};
    layer3 = {{1, kChannels3, kHeight / 2, kWidth / 2}, Draw(kChannels3 * kPatches / 4)};
  }

  std::vector<float> Draw(std::size_t count) {
    std::normal_distribution<float> normal(3.0F, width);
    std::vector<float> values(count);
    for (float& value : values) value = normal(random);
    return values;
  }

  patchcore::MemoryBank Bank() {
    patchcore::MemoryBank bank;
    bank.channels2 = kChannels2;
    bank.channels3 = kChannels3;
    bank.rows = rows2.size() / kChannels2;
    norms.assign(bank.rows, 0.0F);
    for (std::size_t i = 0; i < rows2.size(); ++i) norms[i / kChannels2] += rows2[i] * rows2[i];
    for (std::size_t i = 0; i < rows3.size(); ++i) norms[i / kChannels3] += rows3[i] * rows3[i];
    bank.layer2 = rows2.data();
    bank.layer3 = rows3.data();
    bank.norms = norms.data();
    return bank;
  }

  Shortlist List(std::size_t count) { return {Bank(), features, count, 1}; }

  std::mt19937 random;
  float width;
  patchcore::Features features;
  std::vector<float> rows2, rows3, norms;
  Tensor layer2, layer3;
};

// A device that knows the bank as the host does: asked about the rows themselves, it has m'.
// With `noise` every score is off by that share of half's rounding.
Candidates Answer(Case& c, const Queries& queries, std::size_t wanted, double noise = 0) {
  const patchcore::MemoryBank bank = c.Bank();
  const std::size_t columns = kSize + 4;
  std::uniform_real_distribution<double> shake(-noise / 2048, noise / 2048);
  std::vector<Queries> rows;
  Shortlist own = c.List(wanted);
  for (std::size_t row = 0; row < bank.rows; ++row) {  // one row on every cell of an image
    Tensor two{{1, kChannels2, kHeight, kWidth}, {}}, three{{1, kChannels3, 2, 3}, {}};
    for (std::size_t i = 0; i < kChannels2; ++i) {
      two.values.insert(two.values.end(), kPatches, c.rows2[row * kChannels2 + i]);
    }
    for (std::size_t i = 0; i < kChannels3; ++i) {
      three.values.insert(three.values.end(), kPatches / 4, c.rows3[row * kChannels3 + i]);
    }
    rows.push_back(own.Ask(two, three));
  }
  Candidates answer;
  for (std::size_t patch = 0; patch < kPatches; ++patch) {
    std::vector<std::pair<double, std::int32_t>> all;
    for (std::size_t row = 0; row < bank.rows; ++row) {
      double square = 0;
      for (std::size_t i = 0; i < kSize; ++i) {
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
  const patchcore::PortableIndex index(c.Bank(), c.features, 1);
  const NearestRows exact = index.Nearest(c.layer2, c.layer3);
  REQUIRE(got.rows == exact.rows);
  REQUIRE(got.distances == exact.distances);
}

}  // namespace

TEST_CASE("a shortlist gives exactly what the exact search gives, however few rows it has") {
  const unsigned seed = GENERATE(range(0U, 4U));
  const std::size_t wanted = GENERATE(1, 2, 8, 40);
  Case c(40, seed);
  Shortlist list = c.List(wanted);
  const Queries queries = list.Ask(c.layer2, c.layer3);
  RequireExact(c, list.Rank(queries, Answer(c, queries, wanted), c.layer2, c.layer3));
  REQUIRE(list.patches() == kPatches);
  if (wanted == 1) REQUIRE(list.searched() == kPatches);  // one row cannot prove itself
  if (wanted == 8) REQUIRE(list.searched() < kPatches / 4);
  if (wanted == 40) REQUIRE(list.searched() == 0);
}

TEST_CASE("rounding by the device changes no row, even where rows are hardly apart") {
  const unsigned seed = GENERATE(range(0U, 6U));
  Case c(300, seed, 0.5F);
  std::normal_distribution<float> small(0.0F, 0.0005F);
  for (std::size_t i = kChannels2; i < c.rows2.size(); ++i) {  // three families of near rows
    if (i / kChannels2 > 2) c.rows2[i] = c.rows2[i % (3 * kChannels2)] + small(c.random);
  }
  for (std::size_t i = 3 * kChannels3; i < c.rows3.size(); ++i) {
    c.rows3[i] = c.rows3[i % (3 * kChannels3)] + small(c.random);
  }
  Shortlist list = c.List(4);
  const Queries queries = list.Ask(c.layer2, c.layer3);
  RequireExact(c, list.Rank(queries, Answer(c, queries, 4, 0.99), c.layer2, c.layer3));
  REQUIRE(list.searched() > 0);
}

TEST_CASE("of equal rows the first wins, in the list and outside of it") {
  const std::size_t wanted = GENERATE(2, 8);
  Case c(10, 0);
  for (int copy = 0; copy < 2; ++copy) {  // every row three times
    c.rows2.insert(c.rows2.end(), c.rows2.begin(), c.rows2.begin() + 10 * kChannels2);
    c.rows3.insert(c.rows3.end(), c.rows3.begin(), c.rows3.begin() + 10 * kChannels3);
  }
  Shortlist list = c.List(wanted);
  const Queries queries = list.Ask(c.layer2, c.layer3);
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
  RequireExact(c, list.Rank(queries, answer, c.layer2, c.layer3));
}

TEST_CASE("scores that are off by as much as halves round still prove most patches") {
  Case c(40, GENERATE(range(0U, 4U)));
  Shortlist list = c.List(8);
  const Queries queries = list.Ask(c.layer2, c.layer3);
  RequireExact(c, list.Rank(queries, Answer(c, queries, 8, 0.99), c.layer2, c.layer3));
  REQUIRE(list.searched() < kPatches / 4);
}

TEST_CASE("a nearer row whose score rounds to the listed ones' is found") {
  Case c(4, 0);
  // Squared lengths 9973 and 9974; both halves, scaled by 1/8, are 77.9375 in half precision.
  c.rows2 = {99, 13, 1, 1, 1, -99, -13, -1, -1, -1, 99, 13, 2, 0, 0, -99, -13, -2, 0, 0};
  std::fill(c.rows3.begin(), c.rows3.end(), 0.0F);
  std::fill(c.layer2.values.begin(), c.layer2.values.end(), 0.0F);
  std::fill(c.layer3.values.begin(), c.layer3.values.end(), 0.0F);
  Shortlist list = c.List(2);
  Candidates answer{std::vector<float>(2 * kPatches, -77.9375F), {}};
  for (std::size_t patch = 0; patch < kPatches; ++patch) {
    answer.rows.insert(answer.rows.end(), {2, 3});
  }
  const auto got = list.Rank(list.Ask(c.layer2, c.layer3), answer, c.layer2, c.layer3);
  REQUIRE(got.rows == std::vector<std::int64_t>(kPatches, 0));
  REQUIRE(list.searched() == kPatches);
}

TEST_CASE("a score rounded to half proves a row where the others are far") {
  Case c(4, 0);
  c.rows2 = {99, 13, 1, 1, 1, -99, -13, -1, -1, -1, 99, 60, 2, 0, 0, -99, -60, -2, 0, 0};
  std::fill(c.rows3.begin(), c.rows3.end(), 0.0F);
  std::fill(c.layer2.values.begin(), c.layer2.values.end(), 0.0F);
  std::fill(c.layer3.values.begin(), c.layer3.values.end(), 0.0F);
  Shortlist list = c.List(3);
  Candidates answer;
  for (std::size_t patch = 0; patch < kPatches; ++patch) {
    // 9973 / 128 = 77.914 and 13405 / 128 = 104.727, in half precision
    answer.scores.insert(answer.scores.end(), {-77.9375F, -77.9375F, -104.75F});
    answer.rows.insert(answer.rows.end(), {0, 1, 2});
  }
  const auto got = list.Rank(list.Ask(c.layer2, c.layer3), answer, c.layer2, c.layer3);
  REQUIRE(got.rows == std::vector<std::int64_t>(kPatches, 0));
  REQUIRE(list.searched() == 0);
}

TEST_CASE("every value sent is a half, and what is too far for halves is not asked") {
  Case c(20, 1);
  c.layer2.values[0] = 1e6F;
  c.layer2.values[1] = std::numeric_limits<float>::infinity();
  Shortlist list = c.List(20);
  const Queries queries = list.Ask(c.layer2, c.layer3);
  for (const float value : queries.columns.values) {
    const auto units = static_cast<double>(value) * 16384;  // 2^14
    const double step = std::exp2(std::max(0.0, std::floor(std::log2(std::abs(units))))) / 1024;
    REQUIRE((value == 0 || std::fmod(std::abs(units), step) == 0));
  }
  REQUIRE(std::isinf(queries.lengths[0]));
  REQUIRE(std::isinf(queries.lengths[1]));
  list.Rank(queries, Answer(c, queries, 20), c.layer2, c.layer3);
  REQUIRE(list.searched() == 2);
}

TEST_CASE("scores that no rounding explains send the host to search") {
  Case c(40, 2);
  Shortlist list = c.List(8);
  const Queries queries = list.Ask(c.layer2, c.layer3);
  Candidates answer = Answer(c, queries, 8);
  for (float& score : answer.scores) score *= GENERATE(0.9F, 1.1F);
  RequireExact(c, list.Rank(queries, answer, c.layer2, c.layer3));
  REQUIRE(list.searched() == kPatches);
}

TEST_CASE("a list that cannot be one is refused in one line") {
  Case c(40, 3);
  Shortlist list = c.List(8);
  const Queries queries = list.Ask(c.layer2, c.layer3);
  Candidates answer = Answer(c, queries, 8);
  const auto refusal = [&] {
    return Refusal<BackendError>([&] { list.Rank(queries, answer, c.layer2, c.layer3); });
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
