#include "manifest/manifest.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <utility>

#include "errors.hpp"
#include "files/json_fields.hpp"
#include "files/strict_json.hpp"
#include "manifest/tiling.hpp"

namespace patchcore {
namespace {

using nlohmann::json;
using Fields = JsonFields;

constexpr std::string_view kFormat = "patchcore-artifact";
constexpr std::int64_t kFormatVersion = 3;
constexpr std::int64_t kMaxSidePx = 8192;
constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();

Preprocessing ReadPreprocessing(const Fields& fields) {
  Preprocessing settings;
  settings.resize = fields.OneOf<Resize>(
      "resize", {{"stretch", Resize::kStretch}, {"shorter_side", Resize::kShorterSide}});
  const std::int64_t resize_height = fields.Integer("resize_height");
  const std::int64_t resize_width = fields.Integer("resize_width");
  settings.filter = fields.OneOf<ResampleFilter>("filter", {{"bilinear", ResampleFilter::kBilinear},
                                                            {"bicubic", ResampleFilter::kBicubic},
                                                            {"lanczos", ResampleFilter::kLanczos}});
  settings.height = fields.Size("height", 32, resize_height, "32 to resize_height");
  settings.width = fields.Size("width", 32, resize_width, "32 to resize_width");
  settings.resize_height = fields.Size("resize_height", 32, kMaxSidePx, "up to 8192");
  settings.resize_width = fields.Size("resize_width", 32, kMaxSidePx, "up to 8192");
  fields.Check(settings.resize == Resize::kStretch || resize_height == resize_width, "resize_width",
               "equal to resize_height for shorter_side");
  if (fields.Has("white_level")) {
    settings.white_level =
        static_cast<std::uint32_t>(fields.Size("white_level", 255, kWhite16Bits, "255 to 65535"));
  }
  return settings;
}

RegionOfInterest ReadRegionOfInterest(const Fields& fields) {
  constexpr std::int64_t kLongest = std::int64_t{1} << 23;
  const auto kind = fields.OneOf<RegionKind>(
      "kind", {{"whole", RegionKind::kWhole}, {"mask", RegionKind::kMask}});
  return {kind, fields.Size("photo_height", 8, kLongest, "8 to 2^23"),
          fields.Size("photo_width", 8, kLongest, "8 to 2^23")};
}

Tiling ReadTiling(const Fields& fields) {
  Tiling tiling;
  tiling.tile_height = fields.Size("tile_height", 1, 65536, "1 to 65536");
  tiling.tile_width = fields.Size("tile_width", 1, 65536, "1 to 65536");
  tiling.overlap = fields.Size("overlap", 0, 65536, "0 or more");
  const std::size_t most = std::min(tiling.tile_height, tiling.tile_width) / 2;
  fields.Check(tiling.overlap <= most, "overlap", "0 to half of the tile's shorter side");
  tiling.rows = fields.Size("rows", 1, 65536, "1 or more");
  tiling.columns = fields.Size("columns", 1, 65536, "1 or more");
  return tiling;
}

Bank ReadBank(const Fields& fields) {
  Bank bank;
  bank.rows = fields.Size("rows", 1, kMaxInt32, "1 to 2^31 - 1");
  const auto rows = static_cast<std::int64_t>(bank.rows);
  bank.neighbours = fields.Size("neighbours", 1, rows, "1 to rows");
  bank.precision = fields.OneOf<BankPrecision>(
      "precision", {{"float32", BankPrecision::kFloat32}, {"float16", BankPrecision::kFloat16}});
  return bank;
}

Index ReadIndex(const Fields& fields) {
  Index index;
  index.kind = fields.OneOf<IndexKind>("kind", {{"exact", IndexKind::kExact},
                                                {"hnsw", IndexKind::kHnsw},
                                                {"faiss-flat", IndexKind::kFaissFlat},
                                                {"faiss-ivfpq", IndexKind::kFaissIvfpq}});
  const bool exact = index.kind == IndexKind::kExact;
  const bool all_rows = exact || index.kind == IndexKind::kFaissFlat;
  index.effort = all_rows ? fields.Size("effort", 0, 0, "0 for exact, faiss-flat")
                          : fields.Size("effort", 1, 65536, "1 to 65536");
  index.recall = fields.Number("recall");
  fields.Check(exact ? index.recall == 1 : index.recall > 0 && index.recall <= 1, "recall",
               "in (0, 1]; 1 for exact");
  index.score_change = fields.Number("score_change");
  fields.Check(exact ? index.score_change == 0 : index.score_change >= 0 && index.score_change <= 1,
               "score_change", "0 to 1; 0 for exact");
  index.mindir_candidates = fields.Size("mindir_candidates", 0, 1024, "0 to 1024");
  return index;
}

Scoring ReadScoring(const Fields& fields) {
  Scoring scoring;
  scoring.image_score =
      fields.OneOf<ImageScore>("image_score", {{"max", ImageScore::kMax},
                                               {"map", ImageScore::kMap},
                                               {"paper", ImageScore::kPaper},
                                               {"modelzoo", ImageScore::kModelzoo}});
  scoring.distance = fields.OneOf<Distance>(
      "distance", {{"euclidean", Distance::kEuclidean}, {"squared", Distance::kSquared}});
  scoring.sigma_px = fields.Number("sigma_px");
  scoring.map_upsampling = ReadUpsampling(fields, "map_upsampling");
  scoring.map_border = fields.OneOf<Border>(
      "map_border", {{"repeated", Border::kRepeated}, {"mirrored", Border::kMirrored}});
  fields.Check(scoring.sigma_px > 0 && scoring.sigma_px <= 1024, "sigma_px", "in (0, 1024]");
  const bool squared = scoring.distance == Distance::kSquared;
  fields.Check(!squared || scoring.image_score != ImageScore::kPaper, "distance",
               "euclidean for paper");
  fields.Check(squared || scoring.image_score != ImageScore::kModelzoo, "distance",
               "squared for modelzoo");
  return scoring;
}

HeldOut ReadHeldOut(const Fields& fields) {
  HeldOut scores;
  scores.bias = fields.Number("bias");
  scores.values = fields.Numbers("values");
  const Fields tail = fields.Object("tail", {"level", "share", "scale", "shape"});
  scores.tail = {tail.Number("level"), tail.Number("share"), tail.Number("scale"),
                 tail.Number("shape")};
  tail.Check(scores.tail.share > 0 && scores.tail.share <= 1, "share", "in (0, 1]");
  tail.Check(scores.tail.scale > 0, "scale", "above 0");
  tail.Check(scores.tail.shape >= -0.5 && scores.tail.shape <= 0.5, "shape", "-0.5 to 0.5");
  fields.Check(scores.bias >= 0.8 && scores.bias <= 1, "bias", "0.8 to 1");
  fields.Check(std::is_sorted(scores.values.begin(), scores.values.end()), "values",
               "in ascending order");
  return scores;
}

std::array<double, 2> ReadInterval(const Fields& fields, const char* name) {
  const std::vector<double> ends = fields.Numbers(name);
  fields.Expect(ends.size() == 2, name, "2 entries", json(ends.size()));
  return {ends[0], ends[1]};
}

Gate ReadGate(const Fields& fields) {
  Gate gate;
  gate.usual_distance = fields.Number("usual_distance");
  gate.largest_distance = fields.Number("largest_distance");
  fields.Check(gate.usual_distance >= 0, "usual_distance", "0 or more");
  fields.Check(gate.largest_distance > gate.usual_distance, "largest_distance",
               "above usual_distance");
  gate.usual_rows = fields.Size("usual_rows", 1, kMaxInt32, "1 to 2^31 - 1");
  const auto usual = static_cast<std::int64_t>(gate.usual_rows);
  gate.fewest_rows = fields.Size("fewest_rows", 0, usual, "0 to usual_rows");
  return gate;
}

// The calibration of an artifact without held-out scores: imported, or learned from one image.
bool IsNotKnown(const HeldOut& scores) {
  const Tail& tail = scores.tail;
  return scores.bias == 1 && scores.values.empty() && tail.level == 0 && tail.share == 1 &&
         tail.scale == 1 && tail.shape == 0;
}

void CheckRanks(const Fields& fields, const Calibration& result) {
  const std::vector<std::int64_t>& ranks = result.ranks;
  const bool rising = std::adjacent_find(ranks.begin(), ranks.end(),
                                         std::greater_equal<std::int64_t>()) == ranks.end();
  const bool known = result.images > 0;
  const bool whole = known ? !ranks.empty() && ranks.front() >= 1 &&
                                 ranks.back() == static_cast<std::int64_t>(result.images)
                           : ranks.empty();
  fields.Check(rising && whole, "ranks",
               "from 1 on, rising, the last equal to images; empty if images is 0");
  fields.Check(result.image_scores.values.size() == ranks.size(), "image_scores.values",
               "as many entries as ranks");
  fields.Check(result.map_maxima.values.size() == ranks.size(), "map_maxima.values",
               "as many entries as ranks");
  const char* expected = "bias 1, no values, tail 0, 1, 1, 0 if images is 0";
  fields.Check(known || IsNotKnown(result.image_scores), "image_scores", expected);
  fields.Check(known || IsNotKnown(result.map_maxima), "map_maxima", expected);
}

Calibration ReadCalibration(const Fields& fields) {
  Calibration result;
  result.method = fields.Text("method");
  result.images = fields.Size("images", 0, kMaxInt32, "0 to 2^31 - 1");
  const auto images = static_cast<std::int64_t>(result.images);
  const std::int64_t least = images == 0 ? 0 : 1;
  result.groups = fields.Size("groups", least, images, "1 to images; 0 if images is 0");
  const auto groups = static_cast<std::int64_t>(result.groups);
  result.folds = fields.Size("folds", least, groups, "1 to groups; 0 if images is 0");
  result.target_fpr = fields.Number("target_fpr");
  result.image_threshold = fields.Number("image_threshold");
  result.image_interval = ReadInterval(fields, "image_interval");
  result.pixel_threshold = fields.Number("pixel_threshold");
  result.pixel_interval = ReadInterval(fields, "pixel_interval");
  const Fields heatmap = fields.Object("heatmap", {"low", "high"});
  result.heatmap = {heatmap.Number("low"), heatmap.Number("high")};
  result.ranks = fields.Integers("ranks");
  result.image_scores = ReadHeldOut(fields.Object("image_scores", {"bias", "values", "tail"}));
  result.map_maxima = ReadHeldOut(fields.Object("map_maxima", {"bias", "values", "tail"}));
  if (fields.Has("gate")) {
    result.gate = ReadGate(
        fields.Object("gate", {"usual_distance", "largest_distance", "usual_rows", "fewest_rows"}));
  }
  const bool rate =
      images == 0 ? result.target_fpr == 0 : result.target_fpr > 0 && result.target_fpr < 1;
  fields.Check(rate, "target_fpr", "in (0, 1); 0 if images is 0");
  fields.Check(result.image_threshold > 0, "image_threshold", "above 0");
  fields.Check(
      result.heatmap.low < result.pixel_threshold && result.pixel_threshold < result.heatmap.high,
      "pixel_threshold", "between heatmap.low and heatmap.high");
  const auto around = [](const std::array<double, 2>& ends, double threshold) {
    return ends[0] <= threshold && threshold <= ends[1];
  };
  fields.Check(around(result.image_interval, result.image_threshold), "image_interval",
               "lower and upper bound of image_threshold");
  fields.Check(around(result.pixel_interval, result.pixel_threshold), "pixel_interval",
               "lower and upper bound of pixel_threshold");
  CheckRanks(fields, result);
  return result;
}

void CheckGroups(const Fields& fields) {
  const std::vector<double> means = fields.Numbers("means");
  const std::vector<double> spreads = fields.Numbers("spreads");
  fields.Check(!means.empty() && means.size() == spreads.size() && means.size() <= 16, "spreads",
               "as many entries as means, 1 to 16");
  fields.Check(*std::min_element(spreads.begin(), spreads.end()) > 0, "spreads", "above 0");
}

// The C++ program does not monitor a line, but it refuses the same files as the Python runtime.
Monitoring ReadMonitoring(const Fields& fields, std::size_t layers) {
  fields.Size("images", 1, kMaxInt32, "1 to 2^31 - 1");
  const std::size_t cells = fields.Numbers("thumbnail").size();
  fields.Check(cells == 256, "thumbnail", "256 values");
  const std::vector<Fields> groups = fields.Objects("layers", {"means", "spreads"});
  std::for_each(groups.begin(), groups.end(), CheckGroups);
  const Fields quantiles =
      fields.Object("quantiles", {"brightness", "contrast", "warmth", "sharpness", "row_shift",
                                  "column_shift", "likeness", "layers"});
  const auto range = [&](const std::string& name, const std::vector<double>& values) -> UsualRange {
    quantiles.Check(values.size() == 33 && std::is_sorted(values.begin(), values.end()), name,
                    "33 values in ascending order");
    return {values.front(), values.back()};
  };
  const Monitoring monitoring{range("brightness", quantiles.Numbers("brightness")),
                              range("contrast", quantiles.Numbers("contrast"))};
  for (const char* name : {"warmth", "sharpness", "row_shift", "column_shift", "likeness"}) {
    range(name, quantiles.Numbers(name));
  }
  const std::vector<std::vector<double>> lists = quantiles.NumberLists("layers");
  for (std::size_t layer = 0; layer < lists.size(); ++layer) {
    range("layers[" + std::to_string(layer) + "]", lists[layer]);
  }
  fields.Check(groups.size() == layers, "layers", "as many as features.layers");
  quantiles.Check(lists.size() == layers, "layers", "as many as features.layers");
  return monitoring;
}

SelfTest ReadSelfTest(const Fields& fields, const Preprocessing& input, std::size_t layers) {
  SelfTest selftest;
  selftest.score = fields.Number("score");
  selftest.layer_magnitudes = fields.Numbers("layer_magnitudes");
  const std::vector<double>& magnitudes = selftest.layer_magnitudes;
  fields.Check(magnitudes.size() == 2 * layers, "layer_magnitudes",
               "two numbers for each of features.layers");
  const std::vector<std::int64_t> box = fields.Integers("defect_box");
  fields.Expect(box.size() == 4, "defect_box", "4 entries", json(box.size()));
  selftest.score_tolerance = fields.Number("score_tolerance");
  selftest.map_tolerance = fields.Number("map_tolerance");
  fields.Check(selftest.score >= 0, "score", "0 or more");
  const double smallest = *std::min_element(magnitudes.begin(), magnitudes.end());
  fields.Check(smallest >= 0, "layer_magnitudes", "0 or more, each");
  // A wide tolerance would pass any machine.
  const auto narrow = [](double tolerance) { return tolerance > 0 && tolerance <= 0.1; };
  fields.Check(narrow(selftest.score_tolerance), "score_tolerance", "in (0, 0.1]");
  fields.Check(narrow(selftest.map_tolerance), "map_tolerance", "in (0, 0.1]");
  const bool inside = 0 <= box[0] && box[0] <= box[2] && 0 <= box[1] && box[1] <= box[3] &&
                      box[2] <= static_cast<std::int64_t>(input.height) &&
                      box[3] <= static_cast<std::int64_t>(input.width);
  fields.Check(inside, "defect_box", "top, left, bottom, right inside the input");
  std::transform(box.begin(), box.end(), selftest.defect_box.begin(),
                 [](std::int64_t side) { return static_cast<std::size_t>(side); });
  return selftest;
}

Training ReadTraining(const Fields& fields) {
  return {fields.Text("category"),
          fields.Texts("images"),
          fields.Texts("skipped"),
          fields.Texts("dropped"),
          fields.Text("digest"),
          fields.OneOf<Thumbnails>("thumbnails",
                                   {{"none", Thumbnails::kNone}, {"jpeg", Thumbnails::kJpeg}})};
}

void CheckTiling(const Fields& top, const Tiling& tiling, const Preprocessing& input,
                 std::size_t step) {
  const auto multiple = [&](std::size_t length, const char* name) {
    top.Check(length % step == 0, name, "a multiple of " + std::to_string(step));
  };
  multiple(input.height, "preprocess.height");
  multiple(input.width, "preprocess.width");
  multiple(tiling.tile_height, "tiling.tile_height");
  multiple(tiling.tile_width, "tiling.tile_width");
  multiple(tiling.overlap, "tiling.overlap");
  top.Check(tiling.tile_height <= input.height, "tiling.tile_height", "up to preprocess.height");
  top.Check(tiling.tile_width <= input.width, "tiling.tile_width", "up to preprocess.width");
  const auto covers = [&](std::size_t count, std::size_t length, std::size_t tile) {
    return count == TilesAlong(length, tile, tiling.overlap);
  };
  top.Check(covers(tiling.rows, input.height, tiling.tile_height), "tiling.rows",
            "as many as cover the input");
  top.Check(covers(tiling.columns, input.width, tiling.tile_width), "tiling.columns",
            "as many as cover the input");
}

void CheckVersion(const json& document, const std::string& where) {
  const bool ours = document.is_object() && document.contains("format") &&
                    document["format"].is_string() && document["format"] == kFormat;
  if (!ours) {
    throw ArtifactError(where + ": expected \"format\": \"" + std::string(kFormat) +
                        "\"; this folder is not a PatchCore artifact");
  }
  const json version = document.value("format_version", json());
  if (version.is_number_integer() && version == kFormatVersion - 1) {
    throw ArtifactError(where + ": format_version: expected " + std::to_string(kFormatVersion) +
                        ", got " + ShownValue(version) +
                        "; convert the artifact with `patchcore-runtime upgrade ARTIFACT --output "
                        "NEW`");
  }
  if (!version.is_number_integer() || version != kFormatVersion) {
    throw ArtifactError(where + ": format_version: expected " + std::to_string(kFormatVersion) +
                        ", got " + ShownValue(version).substr(0, 40) +
                        "; use the patchcore_infer that is as new as the artifact, or build it "
                        "again");
  }
}

}  // namespace

Manifest ParseManifest(std::string_view text, const std::string& where) {
  json document;
  try {
    document = ParseStrictJson(text);
  } catch (const JsonError& error) {
    throw ArtifactError(where + ": not JSON (" + error.what() + "); copy the folder again");
  }
  CheckVersion(document, where);
  const Fields top(document, where, "",
                   {"format", "format_version", "preprocess", "region", "tiling", "features",
                    "memory_bank", "index", "scoring", "calibration", "monitoring", "selftest",
                    "training", "config", "provenance"});
  Manifest manifest;
  manifest.preprocess = ReadPreprocessing(top.Object(
      "preprocess", {"resize", "resize_height", "resize_width", "filter", "height", "width"},
      {"white_level"}));
  manifest.region =
      ReadRegionOfInterest(top.Object("region", {"kind", "photo_height", "photo_width"}));
  manifest.tiling =
      ReadTiling(top.Object("tiling", {"tile_height", "tile_width", "overlap", "rows", "columns"}));
  manifest.features = ReadFeatures(top.Object(
      "features", {"backbone", "precision", "mindir", "patch_px", "layers", "upsampling"}));
  const std::size_t layers = manifest.features.layers.size();
  manifest.memory_bank = ReadBank(top.Object("memory_bank", {"rows", "neighbours", "precision"}));
  manifest.index = ReadIndex(
      top.Object("index", {"kind", "effort", "recall", "score_change", "mindir_candidates"}));
  manifest.scoring = ReadScoring(top.Object(
      "scoring", {"image_score", "distance", "sigma_px", "map_upsampling", "map_border"}));
  manifest.calibration = ReadCalibration(top.Object(
      "calibration",
      {"method", "images", "groups", "folds", "target_fpr", "image_threshold", "image_interval",
       "pixel_threshold", "pixel_interval", "heatmap", "ranks", "image_scores", "map_maxima"},
      {"gate"}));
  manifest.monitoring = ReadMonitoring(
      top.Object("monitoring", {"images", "thumbnail", "layers", "quantiles"}), layers);
  manifest.selftest = ReadSelfTest(
      top.Object("selftest",
                 {"score", "layer_magnitudes", "defect_box", "score_tolerance", "map_tolerance"}),
      manifest.preprocess, layers);
  manifest.training = ReadTraining(
      top.Object("training", {"category", "images", "skipped", "dropped", "digest", "thumbnails"}));
  top.FreeObject("config");
  top.FreeObject("provenance");
  CheckTiling(top, manifest.tiling, manifest.preprocess, manifest.features.StepPx());
  top.Check(manifest.features.has_mindir || manifest.index.mindir_candidates == 0,
            "index.mindir_candidates", "0 where features.mindir is none");
  return manifest;
}

}  // namespace patchcore
