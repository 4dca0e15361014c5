// Scores and maps against numbers of runtime/patchcore_runtime.
#include "scoring/patch_scorer.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/drawn_layers.hpp"

namespace {

using patchcore::AnomalyMap;
using patchcore::Border;
using patchcore::Distance;
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

patchcore::Scoring Blurred(double sigma_px, Upsampling upsampling = Upsampling::kBilinear,
                           Border border = Border::kRepeated) {
  patchcore::Scoring scoring;
  scoring.sigma_px = sigma_px;
  scoring.map_upsampling = upsampling;
  scoring.map_border = border;
  return scoring;
}

// One row of levels, upsampled and blurred pixel by pixel as FORMAT.md says it.
std::vector<double> DirectRow(const std::vector<double>& levels, std::size_t patch_px,
                              const patchcore::Scoring& scoring) {
  const auto cells = static_cast<std::int64_t>(levels.size());
  const auto p = static_cast<std::int64_t>(patch_px), size = cells * p;
  std::vector<double> fine;
  for (std::int64_t pixel = 0; pixel < size; ++pixel) {
    if (scoring.map_upsampling == Upsampling::kNearest) {
      fine.push_back(levels[static_cast<std::size_t>(pixel / p)]);
      continue;
    }
    const double source = (static_cast<double>(pixel) + 0.5) / static_cast<double>(p) - 0.5;
    const auto below = static_cast<std::int64_t>(std::floor(source));
    const auto level = [&](std::int64_t cell) {
      return levels[static_cast<std::size_t>(std::min(std::max<std::int64_t>(cell, 0), cells - 1))];
    };
    const double share = source - static_cast<double>(below);
    fine.push_back((1 - share) * level(below) + share * level(below + 1));
  }
  // Walks away from the row and back, one pixel at a time.
  const auto beyond = [&](std::int64_t place) {
    std::int64_t pixel = 0, step = 1;
    for (std::int64_t i = 0; i < std::abs(place); ++i) {
      const std::int64_t next = pixel + step;
      if (next >= 0 && next < size) {
        pixel = next;
        continue;
      }
      step = -step;  // repeated: stands still once; mirrored: turns at once
      if (scoring.map_border == Border::kMirrored && size > 1) pixel += step;
    }
    return pixel;
  };
  std::vector<double> blurred;
  const auto reach = static_cast<std::int64_t>(4 * scoring.sigma_px + 0.5);
  for (std::int64_t pixel = 0; pixel < size; ++pixel) {
    double sum = 0, total = 0;
    for (std::int64_t x = -reach; x <= reach; ++x) {
      const double side = static_cast<double>(x) / scoring.sigma_px;
      const double weight = std::exp(-side * side / 2);
      std::int64_t place = pixel + x;
      if (place < 0 && scoring.map_border == Border::kRepeated) place = -1 - place;
      sum += weight * fine[static_cast<std::size_t>(beyond(place))];
      total += weight;
    }
    blurred.push_back(sum / total);
  }
  return blurred;
}

}  // namespace

TEST_CASE("maps are what their definition gives pixel by pixel, for any border and patch") {
  const double sigma_px = GENERATE(0.3, 1.5, 4.0, 31.0);  // the last reaches over the row twice
  const auto upsampling = GENERATE(Upsampling::kBilinear, Upsampling::kNearest);
  const auto border = GENERATE(Border::kRepeated, Border::kMirrored);
  const std::size_t patch_px = GENERATE(1, 4, 8, 14);
  const std::size_t cells = GENERATE(1, 2, 5);
  const patchcore::Scoring scoring = Blurred(sigma_px, upsampling, border);
  std::vector<double> levels;
  for (const float value : Draw(cells, 7)) levels.push_back(static_cast<double>(value));
  const std::vector<double> expected = DirectRow(levels, patch_px, scoring);
  const Matrix matrix = MapMatrix(cells * patch_px, cells, scoring);
  for (std::size_t pixel = 0; pixel < expected.size(); ++pixel) {
    double got = 0;
    for (std::size_t cell = 0; cell < cells; ++cell) {
      got += static_cast<double>(matrix.values[pixel * cells + cell]) * levels[cell];
    }
    CAPTURE(pixel);
    REQUIRE(std::abs(got - expected[pixel]) <= 1e-6);
  }
}

TEST_CASE("a mirrored border does not repeat its last pixel") {
  // sigma 0.5 reaches two pixels: weights 1, e^-2, e^-8. Pixel 0 of the row a b c sees
  // c b a b c where it is mirrored, and b a a b c where the border is repeated.
  const double near = std::exp(-2.0), far = std::exp(-8.0), total = 1 + 2 * near + 2 * far;
  const Matrix mirrored = MapMatrix(3, 3, Blurred(0.5, Upsampling::kNearest, Border::kMirrored));
  REQUIRE(Near(mirrored.values[0], 1 / total));
  REQUIRE(Near(mirrored.values[1], 2 * near / total));
  REQUIRE(Near(mirrored.values[2], 2 * far / total));
  const Matrix repeated = MapMatrix(3, 3, Blurred(0.5, Upsampling::kNearest));
  REQUIRE(Near(repeated.values[0], (1 + near) / total));
  REQUIRE(Near(repeated.values[1], (near + far) / total));
  REQUIRE(Near(repeated.values[2], far / total));
}

TEST_CASE("upsampling weights are those of half-pixel centres with held edges") {
  const std::vector<float> bilinear{1, 0,     0,     0.75F, 0.25F, 0,     0.25F, 0.75F, 0,
                                    0, 0.75F, 0.25F, 0,     0.25F, 0.75F, 0,     0,     1};
  REQUIRE(UpsamplingMatrix(6, 3, Upsampling::kBilinear).values == bilinear);
  const std::vector<float> nearest{1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1};
  REQUIRE(UpsamplingMatrix(6, 3, Upsampling::kNearest).values == nearest);
}

TEST_CASE("map weights are Python's, also where the Gaussian is wider than the image") {
  const Matrix narrow = MapMatrix(24, 3, Blurred(2.5));
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
  const Matrix wide = MapMatrix(16, 2, Blurred(40.0));
  REQUIRE(Near(wide.values[0], 0.4999936819076538));
  REQUIRE(Near(wide.values[1], 0.5000063180923462));
}

TEST_CASE("every row of map weights sums to one") {
  const double sigma_px = GENERATE(0.1, 1.5, 4.0, 23.0, 200.0);
  const Matrix matrix = MapMatrix(64, 8, Blurred(sigma_px));
  for (auto row = matrix.values.begin(); row != matrix.values.end(); row += 8) {
    REQUIRE(Near(std::accumulate(row, row + 8, 0.0), 1.0));
  }
}

TEST_CASE("an anomaly map is Python's") {
  const std::vector<float> levels{1, 2, 0.5, 3, 0.25, 1.5};
  const std::vector<float> map =
      AnomalyMap(levels.data(), MapMatrix(16, 2, Blurred(1.5)), MapMatrix(24, 3, Blurred(1.5)));
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
      AnomalyMap(levels.data(), MapMatrix(40, 5, Blurred(4.0)), MapMatrix(56, 7, Blurred(4.0)));
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
  const std::vector<std::vector<float>> rows{Draw(9 * 3, 0), Draw(9 * 5, 1000)};
  const std::vector<std::int32_t> neighbours{0, 1, 5, 6, 1, 2, 7, 0, 2, 1, 7, 0, 3, 4, 5, 6, 4, 3,
                                             6, 5, 5, 6, 0, 3, 6, 5, 0, 4, 7, 1, 8, 2, 8, 7, 1, 3};
  const patchcore::Layout layout = LayoutOf({{3, 1}, {5, 2}}, 4, 6, expected.upsampling);
  std::vector<float> norms;
  patchcore::MemoryBank bank = BankOver(rows, layout, norms);
  bank.neighbours = neighbours.data();
  bank.neighbour_count = 4;
  const patchcore::Layers layers{{{1, 3, 4, 6}, Draw(3 * 24, 200)},
                                 {{1, 5, 2, 3}, Draw(5 * 6, 300)}};
  const auto nearest = patchcore::PortableIndex(bank, layout, 1).Nearest(layers);
  patchcore::Scoring scoring = Blurred(1.5);
  scoring.image_score = expected.kind;
  const bool squared = expected.kind == ImageScore::kModelzoo;
  scoring.distance = squared ? Distance::kSquared : Distance::kEuclidean;
  const patchcore::PatchScores scores =
      patchcore::PatchScorer(bank, layout, scoring).Score(layers, nearest);
  REQUIRE(Near(scores.score, expected.score));
  REQUIRE(scores.anomaly_map.size() == 32 * 48);
  REQUIRE(Near(scores.anomaly_map[0], expected.corner));
  REQUIRE(Near(scores.anomaly_map[17 * 48 + 30], expected.inside));
  REQUIRE(Near(*std::max_element(scores.anomaly_map.begin(), scores.anomaly_map.end()),
               expected.maximum));
}

TEST_CASE("a score by the map is its largest value, inside of the region") {
  const DrawnLayers drawn(LayoutOf({{4, 1}, {3, 2}}, 4, 8, Upsampling::kBilinear, 8), 20, 1, 0, 1);
  const patchcore::MemoryBank bank = drawn.Bank();
  const auto nearest = patchcore::PortableIndex(bank, drawn.layout, 1).Nearest(drawn.layers);
  patchcore::Scoring scoring = Blurred(2.0);
  const auto by_patch =
      patchcore::PatchScorer(bank, drawn.layout, scoring).Score(drawn.layers, nearest);
  scoring.image_score = ImageScore::kMap;
  const auto by_map =
      patchcore::PatchScorer(bank, drawn.layout, scoring).Score(drawn.layers, nearest);
  const auto& map = by_map.anomaly_map;
  REQUIRE(by_map.anomaly_map == by_patch.anomaly_map);
  REQUIRE(by_map.score == static_cast<double>(*std::max_element(map.begin(), map.end())));
  REQUIRE(by_map.score < by_patch.score);
}

TEST_CASE("squared distances are the unit of score and map alike") {
  const DrawnLayers drawn(LayoutOf({{4, 1}, {3, 2}, {5, 4}}, 4, 8, Upsampling::kBilinear, 4), 20, 1,
                          0, 1);
  const patchcore::MemoryBank bank = drawn.Bank();
  const auto nearest = patchcore::PortableIndex(bank, drawn.layout, 1).Nearest(drawn.layers);
  // A Gaussian that ends before the next pixel, and nearest cells: the map is the distances.
  patchcore::Scoring scoring = Blurred(0.1, Upsampling::kNearest);
  const auto plain =
      patchcore::PatchScorer(bank, drawn.layout, scoring).Score(drawn.layers, nearest);
  scoring.distance = Distance::kSquared;
  const auto squared =
      patchcore::PatchScorer(bank, drawn.layout, scoring).Score(drawn.layers, nearest);
  const double largest = *std::max_element(nearest.distances.begin(), nearest.distances.end());
  REQUIRE(plain.score == largest);
  REQUIRE(squared.score == largest * largest);
  REQUIRE(plain.anomaly_map.size() == 16 * 32);
  for (std::size_t pixel = 0; pixel < plain.anomaly_map.size(); ++pixel) {
    const std::size_t patch = pixel / 32 / 4 * 8 + pixel % 32 / 4;
    REQUIRE(plain.anomaly_map[pixel] == nearest.distances[patch]);
    REQUIRE(squared.anomaly_map[pixel] == nearest.distances[patch] * nearest.distances[patch]);
  }
}

TEST_CASE("the gate looks at all of the learned region, whatever part of it is inspected") {
  const DrawnLayers drawn(LayoutOf({{4, 1}}, 2, 3), 20, 1, 0, 1);
  const patchcore::NearestRows nearest{{9, 1, 2, 4, 8, 9}, {0, 1, 2, 3, 4, 0}};
  patchcore::Region inspected;  // the last patch alone
  inspected.pixels.assign(16 * 24, 0);
  inspected.patches = {0, 0, 0, 0, 0, 1};
  const patchcore::PatchScorer scorer(drawn.Bank(), drawn.layout, Blurred(1.5),
                                      patchcore::TileGrid(drawn.layout), inspected,
                                      {0, 1, 1, 1, 0, 1});
  const patchcore::GateValues gate = scorer.Score(drawn.layers, nearest).gate;
  CHECK(gate.distance == 2);  // of 1, 2, 4, 9
  CHECK(gate.rows == 4);
  const patchcore::PatchScorer whole(drawn.Bank(), drawn.layout, Blurred(1.5));
  CHECK(whole.Score(drawn.layers, nearest).gate.distance == 4);
  CHECK(whole.Score(drawn.layers, nearest).gate.rows == 5);
}

TEST_CASE("of overlapping tiles the gate sees the mean distance and the owner's row") {
  // Two tiles of 1 x 3 patches on a grid of 1 x 4; patches 1 and 2 lie in both.
  const DrawnLayers drawn(LayoutOf({{4, 1}}, 1, 3), 20, 1, 0, 1);
  patchcore::Preprocessing input;
  input.height = 8;
  input.width = 32;
  const patchcore::TileGrid grid({8, 24, 16, 1, 2}, input, 8);
  const patchcore::PatchScorer scorer(drawn.Bank(), drawn.layout, Blurred(1.5), grid, {}, {});
  patchcore::ImageInWork image = scorer.Begin();
  scorer.Add(0, drawn.layers, {{1, 2, 3}, {10, 11, 12}}, image);
  scorer.Add(1, drawn.layers, {{8, 9, 7}, {13, 14, 15}}, image);
  // Weights are 1 2 1 in each tile: distances (2 * 2 + 8) / 3 = 4 and (3 + 2 * 9) / 3 = 7.
  const patchcore::GateValues gate = scorer.Finish(image).gate;
  CHECK(image.rows == std::vector<std::int64_t>{10, 11, 14, 15});
  CHECK(gate.distance == 4);  // of 1, 4, 7, 7
  CHECK(gate.rows == 4);
}

TEST_CASE("one layer with patches of 14 px is scored by its own distances") {
  const DrawnLayers drawn(LayoutOf({{6, 1}}, 3, 5, Upsampling::kBilinear, 14), 12, 4, 0, 1);
  patchcore::MemoryBank bank = drawn.Bank();
  std::vector<std::int32_t> neighbours;
  for (std::int32_t row = 0; row < 12; ++row) neighbours.insert(neighbours.end(), {row, 0, 11});
  bank.neighbours = neighbours.data();
  bank.neighbour_count = 3;
  const auto nearest = patchcore::PortableIndex(bank, drawn.layout, 1).Nearest(drawn.layers);
  patchcore::Scoring scoring = Blurred(4);
  scoring.image_score = ImageScore::kPaper;
  const auto scores =
      patchcore::PatchScorer(bank, drawn.layout, scoring).Score(drawn.layers, nearest);
  REQUIRE(scores.anomaly_map.size() == 42 * 70);
  const auto peak = static_cast<std::size_t>(
      std::max_element(nearest.distances.begin(), nearest.distances.end()) -
      nearest.distances.begin());
  std::vector<float> distances;  // from p* to the neighbours of m*
  for (std::size_t k = 0; k < 3; ++k) {
    const auto row =
        static_cast<std::size_t>(neighbours[3 * static_cast<std::size_t>(nearest.rows[peak]) + k]);
    double square = 0;
    for (std::size_t c = 0; c < 6; ++c) {
      const double side = static_cast<double>(drawn.layers[0].values[c * 15 + peak]) -
                          static_cast<double>(drawn.rows[0][row * 6 + c]);
      square += side * side;
    }
    distances.push_back(static_cast<float>(std::sqrt(square)));
  }
  REQUIRE(Near(scores.score, PaperScore(nearest.distances[peak], distances)));
}
