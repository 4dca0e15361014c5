// Scores and maps against numbers of runtime/patchcore_runtime.
#include "scoring/patch_scorer.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"

namespace {

using patchcore::AnomalyMap;
using patchcore::ImageScore;
using patchcore::MapMatrix;
using patchcore::Matrix;
using patchcore::ModelzooScore;
using patchcore::PaperScore;
using patchcore::Upsampling;
using patchcore::UpsamplingMatrix;

bool Near(double got, double expected, double relative = 2e-6) {
  return std::abs(got - expected) <= relative * std::max(std::abs(expected), 1e-3);
}

// The values that the Python side drew, too: ((37 i) mod 101) / 50 - 1.
std::vector<float> Draw(std::size_t count, std::size_t start) {
  std::vector<float> values;
  for (std::size_t i = start; i < start + count; ++i) {
    values.push_back(static_cast<float>(static_cast<double>(i * 37 % 101) / 50.0 - 1));
  }
  return values;
}

}  // namespace

TEST_CASE("upsampling weights are those of half-pixel centres with held edges") {
  const std::vector<float> bilinear{1, 0,     0,     0.75F, 0.25F, 0,     0.25F, 0.75F, 0,
                                    0, 0.75F, 0.25F, 0,     0.25F, 0.75F, 0,     0,     1};
  REQUIRE(UpsamplingMatrix(6, 3, Upsampling::kBilinear).values == bilinear);
  const std::vector<float> nearest{1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1};
  REQUIRE(UpsamplingMatrix(6, 3, Upsampling::kNearest).values == nearest);
}

TEST_CASE("map weights are Python's, also where the Gaussian is wider than the image") {
  const Matrix narrow = MapMatrix(24, 3, 2.5);
  const std::vector<std::pair<std::size_t, std::array<double, 3>>> expected{
      {0, {0.9836340546607971, 0.016365930438041687, 0.0}},
      {1, {0.9718832969665527, 0.028116675093770027, 0.0}},
      {7, {0.5553552508354187, 0.4400341212749481, 0.004610600881278515}},
      {12, {0.09669161587953568, 0.7442136406898499, 0.15909472107887268}},
      {23, {0.0, 0.016365930438041687, 0.9836340546607971}}};
  for (const auto& [row, weights] : expected) {
    for (std::size_t cell = 0; cell < 3; ++cell) {
      REQUIRE(Near(narrow.values[row * 3 + cell], weights[cell]));
    }
  }
  const Matrix wide = MapMatrix(16, 2, 40.0);
  REQUIRE(Near(wide.values[0], 0.4999936819076538));
  REQUIRE(Near(wide.values[1], 0.5000063180923462));
}

TEST_CASE("every row of map weights sums to one") {
  const double sigma_px = GENERATE(0.1, 1.5, 4.0, 23.0, 200.0);
  const Matrix matrix = MapMatrix(64, 8, sigma_px);
  for (auto row = matrix.values.begin(); row != matrix.values.end(); row += 8) {
    REQUIRE(Near(std::accumulate(row, row + 8, 0.0), 1.0));
  }
}

TEST_CASE("an anomaly map is Python's") {
  const std::vector<float> levels{1, 2, 0.5, 3, 0.25, 1.5};
  const std::vector<float> map =
      AnomalyMap(levels.data(), MapMatrix(16, 2, 1.5), MapMatrix(24, 3, 1.5));
  REQUIRE(map.size() == 16 * 24);
  REQUIRE(Near(map[0], 1.0023273229599));
  REQUIRE(Near(map[3 * 24 + 20], 0.6159502267837524));
  REQUIRE(Near(map[8 * 24 + 12], 1.076012372970581));
  REQUIRE(Near(map[11 * 24 + 4], 2.5169029235839844));
  const auto peak = std::max_element(map.begin(), map.end());
  REQUIRE(peak - map.begin() == 15 * 24);
  REQUIRE(Near(*peak, 2.996314287185669));
  REQUIRE(Near(std::accumulate(map.begin(), map.end(), 0.0) / (16 * 24), 1.375));
}

TEST_CASE("a constant map stays constant") {
  const std::vector<float> levels(5 * 7, 0.7F);
  const std::vector<float> map =
      AnomalyMap(levels.data(), MapMatrix(40, 5, 4.0), MapMatrix(56, 7, 4.0));
  for (const float value : map) {
    REQUIRE(Near(value, 0.7));
  }
}

TEST_CASE("the paper's score is Python's, and never overflows or turns negative") {
  REQUIRE(Near(PaperScore(2.5, {2.5F, 2.75F, 3.0F}), 1.8643119685238356));
  REQUIRE(Near(PaperScore(900, {900, 905, 910}), 899.9594153628873));
  REQUIRE(PaperScore(3.0000002, {2.9999998F}) == 3.0000002);  // one row: s* itself
  REQUIRE(Near(PaperScore(4, {3.9999995F, 1, 1}), 0.36222642840629016));
  REQUIRE(PaperScore(5, {1.0F, 1.0F}) == 0.0);  // own distance above all: no negative weight
}

TEST_CASE("the modelzoo's score is Python's, and never overflows") {
  REQUIRE(Near(ModelzooScore({2.0F, 2.5F, 4.0F}), 0.5277505513748122));
  REQUIRE(ModelzooScore({1000, 1001, 1300}) >= 0.0);
  REQUIRE(ModelzooScore({7}) == 7.0);
}

TEST_CASE("all image scores and both upsamplings are Python's over one bank") {
  struct Expected {
    Upsampling upsampling;
    ImageScore kind;
    double score, corner, inside, maximum;
  };
  const Expected expected =
      GENERATE(Expected{Upsampling::kBilinear, ImageScore::kMax, 1.995012640953064,
                        1.8819764852523804, 1.5958666801452637, 1.9171321392059326},
               Expected{Upsampling::kBilinear, ImageScore::kPaper, 1.6128645646602762,
                        1.8819764852523804, 1.5958666801452637, 1.9171321392059326},
               Expected{Upsampling::kBilinear, ImageScore::kModelzoo, 2.749843466561243,
                        3.5421721935272217, 2.5543904304504395, 3.707512378692627},
               Expected{Upsampling::kNearest, ImageScore::kMax, 2.0599029064178467,
                        1.8822282552719116, 1.6463578939437866, 1.9731879234313965},
               Expected{Upsampling::kNearest, ImageScore::kPaper, 1.649056339451121,
                        1.8822282552719116, 1.6463578939437866, 1.9731879234313965},
               Expected{Upsampling::kNearest, ImageScore::kModelzoo, 2.3169742532519795,
                        3.5429019927978516, 2.7214086055755615, 3.9332354068756104});
  const std::vector<float> rows2 = Draw(9 * 3, 0), rows3 = Draw(9 * 5, 1000);
  std::vector<float> norms(9, 0.0F);
  for (std::size_t i = 0; i < rows2.size(); ++i) norms[i / 3] += rows2[i] * rows2[i];
  for (std::size_t i = 0; i < rows3.size(); ++i) norms[i / 5] += rows3[i] * rows3[i];
  const std::vector<std::int32_t> neighbours{0, 1, 5, 6, 1, 2, 7, 0, 2, 1, 7, 0, 3, 4, 5, 6, 4, 3,
                                             6, 5, 5, 6, 0, 3, 6, 5, 0, 4, 7, 1, 8, 2, 8, 7, 1, 3};
  patchcore::MemoryBank bank;
  bank.layer2 = rows2.data();
  bank.layer3 = rows3.data();
  bank.norms = norms.data();
  bank.neighbours = neighbours.data();
  bank.rows = 9;
  bank.channels2 = 3;
  bank.channels3 = 5;
  bank.neighbour_count = 4;
  patchcore::Features features;
  features.layer2 = {3, 4, 6};
  features.layer3 = {5, 2, 3};
  features.layer3_upsampling = expected.upsampling;
  const patchcore::Tensor layer2{{1, 3, 4, 6}, Draw(3 * 24, 200)};
  const patchcore::Tensor layer3{{1, 5, 2, 3}, Draw(5 * 6, 300)};
  const auto nearest = patchcore::PortableIndex(bank, features, 1).Nearest(layer2, layer3);
  const patchcore::PatchScorer scorer(bank, features, {expected.kind, 1.5});
  const patchcore::PatchScores scores = scorer.Score(layer2, layer3, nearest);
  REQUIRE(Near(scores.score, expected.score));
  REQUIRE(scores.anomaly_map.size() == 32 * 48);
  REQUIRE(Near(scores.anomaly_map[0], expected.corner));
  REQUIRE(Near(scores.anomaly_map[17 * 48 + 30], expected.inside));
  REQUIRE(Near(*std::max_element(scores.anomaly_map.begin(), scores.anomaly_map.end()),
               expected.maximum));
}
