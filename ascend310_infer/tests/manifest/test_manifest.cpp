// Laws of manifest.json: every damaged field is named, as Python names it.
#include "manifest/manifest.hpp"

#include <cstring>
#include <nlohmann/json.hpp>
#include <tuple>
#include <vector>

#include "errors.hpp"
#include "messages.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"
#include "tests/support/scratch.hpp"

namespace {

using nlohmann::json;
using patchcore::ArtifactError;
using patchcore::ParseManifest;
using Path = std::vector<std::string>;

json Document() {
  return json::parse(ReadFile(std::filesystem::path(PATCHCORE_TINY) / "manifest.json"));
}

std::string Refusal(const std::string& text) {
  try {
    ParseManifest(text, "box/manifest.json");
  } catch (const ArtifactError& error) {
    const std::string message = error.what();
    CHECK(message.rfind("box/manifest.json: ", 0) == 0);
    CHECK(message.find('\n') == std::string::npos);
    CHECK(message.size() < 500);
    return message;
  }
  return "(taken)";
}

bool IsFree(const Path& path) { return path.back() == "config" || path.back() == "provenance"; }

std::string Dotted(const Path& path) {
  std::string text;
  for (const std::string& name : path) {
    const bool is_entry = name.find_first_not_of("0123456789") == std::string::npos;
    text += is_entry ? "[" + name + "]" : (text.empty() ? "" : ".") + name;
  }
  return text;
}

json::json_pointer Pointer(const Path& path) {
  json::json_pointer pointer;
  for (const std::string& name : path) pointer /= name;
  return pointer;
}

Path PathOf(const std::string& dotted) {
  Path path;
  std::istringstream names(dotted);
  for (std::string name; std::getline(names, name, '.');) path.push_back(name);
  return path;
}

// Paths of every field below `place`, objects and lists before what is in them.
void ListFields(const json& place, const Path& path, std::vector<Path>& all) {
  for (const auto& [name, value] : place.items()) {
    Path inner = path;
    inner.push_back(name);
    all.push_back(inner);
    if (value.is_object() && !IsFree(inner)) ListFields(value, inner, all);
    if (!value.is_array() || value.empty() || !value[0].is_object()) continue;
    inner.push_back("0");
    ListFields(value[0], inner, all);
  }
}

std::vector<Path> AllFields() {
  std::vector<Path> all;
  ListFields(Document(), {}, all);
  return all;
}

std::string With(const std::string& dotted, const json& value) {
  json document = Document();
  document[Pointer(PathOf(dotted))] = value;
  return document.dump();
}

TEST_CASE("A missing field is named") {
  for (const Path& path : AllFields()) {
    json document = Document();
    Path parent(path.begin(), path.end() - 1);
    document[Pointer(parent)].erase(path.back());
    const std::string message = Refusal(document.dump());
    CHECK(Mentions(message, path == Path{"format"} ? "format" : Dotted(path)));
  }
}

TEST_CASE("An unknown field is named wherever it occurs") {
  std::vector<Path> objects = {{}};
  for (const Path& path : AllFields()) {
    if (Document()[Pointer(path)].is_object() && !IsFree(path)) objects.push_back(path);
  }
  for (Path path : objects) {
    json document = Document();
    document[Pointer(path)]["surprise"] = 1;
    path.push_back("surprise");
    CHECK(Mentions(Refusal(document.dump()), Dotted(path) + ": unknown field"));
  }
  CHECK(Mentions(Refusal(With("features.layers.1.height", 4)),
                 "features.layers[1].height: unknown field"));
}

TEST_CASE("A field of the wrong type or far out of range is named") {
  const std::vector<json> wrongs = {
      nullptr, true, json::array(), json::object(), "", "text", 1.5, -1, std::uint64_t{1} << 63};
  for (const json& wrong : wrongs) {
    for (const Path& path : AllFields()) {
      const json value = Document()[Pointer(path)];
      const bool same_kind = value.type() == wrong.type() && !value.is_number_integer();
      if (same_kind && (!value.is_boolean())) {
        if (!value.is_number()) continue;  // any text, list or object may stand there
        if (wrong.is_number_float()) continue;
      }
      if (value.is_number_float() && wrong.is_number_unsigned()) {
        continue;  // a number may be as large as it likes where no range is given
      }
      if ((path.back() == "low" || path.back() == "level") && wrong == -1)
        continue;  // a scale may begin below zero
      CAPTURE(Dotted(path), wrong.dump());
      const std::string message = Refusal(With(Dotted(path), wrong));
      CHECK((Mentions(message, path.back()) || Mentions(message, path.front())));
      CHECK(message != "(taken)");
    }
  }
}

TEST_CASE("A value out of its range is refused by name") {
  const std::vector<std::pair<std::string, json>> cases = {
      {"preprocess.resize", "squeeze"},
      {"preprocess.filter", "nearest"},
      {"preprocess.height", 31},
      {"preprocess.height", 65},
      {"preprocess.width", 0},
      {"preprocess.resize_width", 8193},
      {"region.kind", "circle"},
      {"region.photo_height", 7},
      {"region.photo_width", (std::int64_t{1} << 23) + 1},
      {"preprocess.resize_width", std::int64_t{1} << 40},
      {"features.patch_px", 0},
      {"features.patch_px", 65},
      {"features.layers", json::array()},
      {"features.layers", 2},
      {"features.layers.0", "layer2"},
      {"features.layers.0.channels", 0},
      {"features.layers.0.channels", 65537},
      {"features.layers.1.stride", 0},
      {"features.layers.1.stride", 65},
      {"features.layers.0.name", "layer"},
      {"features.layers.0.name", "layer12345"},
      {"features.layers.0.name", "layer2\n"},
      {"features.layers.0.name", "Layer2"},
      {"features.layers.0.name", "images"},
      {"features.upsampling", "bicubic"},
      {"features.mindir", "int8"},
      {"memory_bank.rows", 0},
      {"memory_bank.rows", std::int64_t{1} << 31},
      {"memory_bank.neighbours", 0},
      {"memory_bank.neighbours", 39},
      {"index.kind", "faiss"},
      {"scoring.image_score", "mean"},
      {"scoring.distance", "manhattan"},
      {"scoring.map_upsampling", "bicubic"},
      {"scoring.map_border", "reflected"},
      {"scoring.sigma_px", 0},
      {"scoring.sigma_px", 1024.5},
      {"calibration.images", -1},
      {"calibration.folds", 0},
      {"calibration.folds", 13},
      {"calibration.target_fpr", 0},
      {"calibration.target_fpr", 1},
      {"calibration.groups", 0},
      {"calibration.groups", 13},
      {"calibration.image_threshold", 0},
      {"calibration.image_interval", {1e-9, 1e-8}},
      {"calibration.pixel_interval", {0.5}},
      {"calibration.pixel_threshold", 1e9},
      {"calibration.ranks", json::array()},
      {"calibration.ranks", {0, 12}},
      {"calibration.ranks", {1, 1, 12}},
      {"calibration.ranks", {1, 13}},
      {"calibration.ranks", {1, "high"}},
      {"calibration.image_scores.bias", 0.79},
      {"calibration.image_scores.values", json::array({1.0})},
      {"calibration.map_maxima.values", {2.0, 1.0}},
      {"calibration.map_maxima.tail.share", 0},
      {"calibration.map_maxima.tail.scale", 0},
      {"calibration.map_maxima.tail.shape", 0.51},
      {"selftest.layer_magnitudes", {1, 1, 1}},
      {"selftest.layer_magnitudes", {1, 1, 1, 1, 1, 1}},
      {"selftest.layer_magnitudes", {1, 1, 1, -1}},
      {"selftest.layer_magnitudes", {1, 1, 1, "1"}},
      {"monitoring.images", 0},
      {"monitoring.thumbnail", {1.0}},
      {"monitoring.layers", json::array()},
      {"monitoring.layers.0.spreads", json::array()},
      {"monitoring.layers.1.spreads", {0.0}},
      {"monitoring.quantiles.layers", json::array()},
      {"monitoring.quantiles.layers.1", {0.0, 1.0}},
      {"monitoring.quantiles.layers.0", "none"},
      {"monitoring.quantiles.warmth", {0.0, 1.0}},
      {"selftest.defect_box", {28, 28, 36}},
      {"selftest.defect_box", {28, 28, 36, 36, 60}},
      {"selftest.defect_box", {28, 28, 65, 36}},
      {"selftest.defect_box", {28, 28, 36, 65}},
      {"selftest.defect_box", {-1, 28, 36, 36}},
      {"selftest.defect_box", {36, 28, 28, 36}},
      {"selftest.defect_box", {28, 28.5, 36, 36}},
      {"selftest.score_tolerance", 0},
      {"selftest.score_tolerance", 0.2},
      {"selftest.map_tolerance", 0},
      {"selftest.map_tolerance", 0.2},
      {"training.images", {"000.png", 1}},
  };
  for (const auto& [path, value] : cases) {
    CAPTURE(path, value.dump());
    CHECK(Mentions(Refusal(With(path, value)), Dotted(PathOf(path))));
  }
}

TEST_CASE("A detector may be imported without held-out scores, and then has none at all") {
  json document = Document();
  json& calibration = document["calibration"];
  const json unknown = {{"bias", 1},
                        {"values", json::array()},
                        {"tail", {{"level", 0}, {"share", 1}, {"scale", 1}, {"shape", 0}}}};
  for (const char* name : {"images", "groups", "folds", "target_fpr"}) calibration[name] = 0;
  calibration["ranks"] = json::array();
  for (const char* name : {"image_scores", "map_maxima"}) calibration[name] = unknown;
  CHECK(ParseManifest(document.dump(), "box/manifest.json").calibration.images == 0);
  const std::vector<std::pair<std::string, json>> cases = {
      {"calibration.groups", 1},
      {"calibration.folds", 1},
      {"calibration.target_fpr", 0.01},
      {"calibration.ranks", {1}},
      {"calibration.image_scores.values", {1.0}},
      {"calibration.image_scores.bias", 0.9},
      {"calibration.map_maxima.tail.scale", 2},
  };
  for (const auto& [path, value] : cases) {
    CAPTURE(path);
    json damaged = document;
    damaged[Pointer(PathOf(path))] = value;
    CHECK(Mentions(Refusal(damaged.dump()), "calibration."));
  }
}

json WithGate() {
  json document = Document();
  document["calibration"]["gate"] = {
      {"usual_distance", 1.5}, {"largest_distance", 2.5}, {"usual_rows", 30}, {"fewest_rows", 12}};
  return document;
}

TEST_CASE("A gate is optional, and what it says is read") {
  CHECK_FALSE(ParseManifest(Document().dump(), "here").calibration.gate);
  const auto gate = ParseManifest(WithGate().dump(), "here").calibration.gate;
  REQUIRE(gate);
  CHECK(gate->usual_distance == 1.5);
  CHECK(gate->largest_distance == 2.5);
  CHECK(gate->usual_rows == 30);
  CHECK(gate->fewest_rows == 12);
}

TEST_CASE("A gate out of range, or that is none, is refused in Python's words") {
  const std::int64_t most = std::int64_t{1} << 31;
  const std::vector<std::tuple<std::string, json, std::string>> cases = {
      {"usual_distance", -0.1, "expected 0 or more"},
      {"usual_distance", "far", "expected a number, got \"far\""},
      {"largest_distance", 1.5, "expected above usual_distance"},
      {"usual_rows", 0, "expected 1 to 2^31 - 1"},
      {"usual_rows", most, "expected 1 to 2^31 - 1"},
      {"usual_rows", 30.5, "expected int, got 30.5"},
      {"fewest_rows", -1, "expected 0 to usual_rows"},
      {"fewest_rows", 31, "expected 0 to usual_rows"},
      {"fewest_rows", nullptr, "expected int, got null"},
      {"surprise", 1, "unknown field"}};
  for (const auto& [name, value, reason] : cases) {
    json document = WithGate();
    document["calibration"]["gate"][name] = value;
    CAPTURE(name, value.dump());
    CHECK(Mentions(Refusal(document.dump()), "calibration.gate." + name + ": " + reason));
  }
  for (const char* name : {"usual_distance", "largest_distance", "usual_rows", "fewest_rows"}) {
    json document = WithGate();
    document["calibration"]["gate"].erase(name);
    CHECK(
        Mentions(Refusal(document.dump()), std::string("calibration.gate.") + name + ": missing"));
  }
  CHECK(Mentions(Refusal(With("calibration.gate", nullptr)),
                 "calibration.gate: expected an object, got null"));
  CHECK(Mentions(Refusal(With("calibration.gate", json::array())),
                 "calibration.gate: expected an object, got list"));
}

TEST_CASE("A gate at the edge of its ranges is taken") {
  const std::vector<std::pair<std::string, json>> cases = {
      {"usual_distance", 0},
      {"usual_rows", (std::int64_t{1} << 31) - 1},
      {"fewest_rows", 0},
      {"fewest_rows", 30}};
  for (const auto& [name, value] : cases) {
    json document = WithGate();
    document["calibration"]["gate"][name] = value;
    CAPTURE(name);
    CHECK_NOTHROW(ParseManifest(document.dump(), "here"));
  }
}

TEST_CASE("The usual brightness and contrast are the ends of their quantiles") {
  const json quantiles = Document()["monitoring"]["quantiles"];
  const auto monitoring = ParseManifest(Document().dump(), "here").monitoring;
  CHECK(monitoring.brightness.low == quantiles["brightness"].front().get<double>());
  CHECK(monitoring.brightness.high == quantiles["brightness"].back().get<double>());
  CHECK(monitoring.contrast.low == quantiles["contrast"].front().get<double>());
  CHECK(monitoring.contrast.high == quantiles["contrast"].back().get<double>());
  CHECK(monitoring.contrast.low < monitoring.contrast.high);
}

// The golden manifest with these layers, and lists of that length wherever one is needed.
json WithLayers(const std::vector<std::pair<std::string, int>>& layers) {
  json document = Document();
  json groups = json::array(), quantiles = json::array(), magnitudes = json::array();
  json& list = document["features"]["layers"] = json::array();
  for (const auto& [name, stride] : layers) {
    list.push_back({{"name", name}, {"channels", 8}, {"stride", stride}});
    groups.push_back(document["monitoring"]["layers"][0]);
    quantiles.push_back(document["monitoring"]["quantiles"]["layers"][0]);
    magnitudes.insert(magnitudes.end(), {0.5, 1.0});
  }
  document["monitoring"]["layers"] = groups;
  document["monitoring"]["quantiles"]["layers"] = quantiles;
  document["selftest"]["layer_magnitudes"] = magnitudes;
  return document;
}

TEST_CASE("A list of one to four layers of any names and rising strides is taken") {
  using List = std::vector<std::pair<std::string, int>>;
  for (const List& list :
       {List{{"block11", 1}}, List{{"output0", 1}, {"output1", 1}, {"block0001", 1}},
        List{{"layer1", 1}, {"layer2", 2}, {"layer3", 4}, {"layer4", 4}}}) {
    const auto manifest = ParseManifest(WithLayers(list).dump(), "here");
    REQUIRE(manifest.features.layers.size() == list.size());
    const patchcore::Layout layout = manifest.layout();
    for (std::size_t i = 0; i < list.size(); ++i) {
      const auto stride = static_cast<std::size_t>(list[i].second);
      CHECK(layout.layers[i].name == list[i].first);
      CHECK(layout.layers[i].height == 8 / stride);
      CHECK(layout.layers[i].width == 8 / stride);
    }
  }
}

TEST_CASE("Layers that are too many, have one name, or whose strides fall are refused") {
  const auto refused = [](const std::vector<std::pair<std::string, int>>& layers) {
    return Refusal(WithLayers(layers).dump());
  };
  const std::string where = "features.layers: expected ";
  CHECK(
      Mentions(refused({{"layer1", 1}, {"layer2", 1}, {"layer3", 1}, {"layer4", 1}, {"layer5", 1}}),
               where + "1 to 4 layers"));
  CHECK(Mentions(refused({{"layer1", 1}, {"layer1", 2}}), where + "layers of different names"));
  const std::string strides = where + "strides from 1 on that never fall";
  CHECK(Mentions(refused({{"layer1", 2}}), strides));
  CHECK(Mentions(refused({{"layer1", 1}, {"layer2", 4}, {"layer3", 2}}), strides));
}

TEST_CASE("Lists of another length than the layers' are refused by name") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"monitoring.layers", "monitoring.layers: expected as many as features.layers"},
      {"monitoring.quantiles.layers",
       "monitoring.quantiles.layers: expected as many as features.layers"},
      {"selftest.layer_magnitudes",
       "selftest.layer_magnitudes: expected two numbers for each of features.layers"}};
  for (const auto& [path, message] : cases) {
    json document = WithLayers({{"layer1", 1}, {"layer2", 2}, {"layer3", 4}});
    json& list = document[Pointer(PathOf(path))];
    list.erase(list.size() - 1);
    CHECK(Mentions(Refusal(document.dump()), message));
  }
}

TEST_CASE("Sides that are no multiples of the step are refused by name") {
  json patches = WithLayers({{"block11", 1}});
  patches["features"]["patch_px"] = 14;
  CHECK(Mentions(Refusal(patches.dump()), "preprocess.height: expected a multiple of 14"));
  for (const char* side : {"height", "width"}) {
    patches["preprocess"][side] = 56;
    patches["tiling"][std::string("tile_") + side] = 42;
    patches["tiling"][side[0] == 'h' ? "rows" : "columns"] = 2;
  }
  patches["tiling"]["overlap"] = 14;
  patches["selftest"]["defect_box"] = {0, 0, 42, 42};
  const auto manifest = ParseManifest(patches.dump(), "here");
  CHECK(manifest.features.StepPx() == 14);
  CHECK(manifest.layout().Height() == 3);
  for (const auto& [path, wrong] :
       std::vector<std::pair<std::string, int>>{{"preprocess.width", 50},
                                                {"tiling.tile_height", 40},
                                                {"tiling.tile_width", 43},
                                                {"tiling.overlap", 13}}) {
    json document = patches;
    document[Pointer(PathOf(path))] = wrong;
    CHECK(Mentions(Refusal(document.dump()), path + ": expected a multiple of 14"));
  }
  const json strided = WithLayers({{"layer1", 1}, {"layer2", 16}});
  CHECK(Mentions(Refusal(strided.dump()), "preprocess.height: expected a multiple of 128"));
  CHECK(Mentions(Refusal(With("tiling.overlap", 33)),
                 "tiling.overlap: expected 0 to half of the tile's shorter side"));
}

TEST_CASE("What belongs to a MindIR is refused where the artifact has none") {
  CHECK(Mentions(Refusal(With("features.precision", "int8")),
                 "features.mindir: expected none where precision is int8"));
  json document = Document();
  document["features"]["mindir"] = "none";
  CHECK(Mentions(Refusal(document.dump()),
                 "index.mindir_candidates: expected 0 where features.mindir is none"));
  document["index"]["mindir_candidates"] = 0;
  CHECK_FALSE(ParseManifest(document.dump(), "here").features.has_mindir);
}

TEST_CASE("The unit of distance is the one that the image score has") {
  for (const auto& [score, distance, refused] :
       std::vector<std::tuple<std::string, std::string, std::string>>{
           {"max", "euclidean", ""},
           {"max", "squared", ""},
           {"paper", "euclidean", ""},
           {"paper", "squared", "scoring.distance: expected euclidean for paper"},
           {"modelzoo", "squared", ""},
           {"modelzoo", "euclidean", "scoring.distance: expected squared for modelzoo"}}) {
    json document = Document();
    document["scoring"]["image_score"] = score;
    document["scoring"]["distance"] = distance;
    CAPTURE(score, distance);
    CHECK(Mentions(Refusal(document.dump()), refused.empty() ? "(taken)" : refused));
  }
}

TEST_CASE("A value at the edge of its range is taken") {
  const std::vector<std::pair<std::string, json>> cases = {
      {"preprocess.resize_height", 8192},
      {"memory_bank.rows", 2147483647},
      {"memory_bank.neighbours", 38},
      {"scoring.sigma_px", 1024},
      {"scoring.map_upsampling", "nearest"},
      {"scoring.map_border", "mirrored"},
      {"features.layers.0.channels", 65536},
      {"features.layers.0.name", "output0007"},
      {"calibration.map_maxima.tail.shape", -0.5},
      {"selftest.defect_box", {0, 0, 64, 64}},
      {"selftest.score_tolerance", 0.1},
      {"training.category", "Schraube Größe 4 ✓"},
  };
  for (const auto& [path, value] : cases) {
    CAPTURE(path);
    CHECK_NOTHROW(ParseManifest(With(path, value), "here"));
  }
}

TEST_CASE("Every kind of index is known, with the effort that belongs to it") {
  using patchcore::IndexKind;
  const std::vector<std::pair<std::string, IndexKind>> kinds = {
      {"exact", IndexKind::kExact},
      {"hnsw", IndexKind::kHnsw},
      {"faiss-flat", IndexKind::kFaissFlat},
      {"faiss-ivfpq", IndexKind::kFaissIvfpq}};
  for (const auto& [name, kind] : kinds) {
    CAPTURE(name);
    const bool all_rows = kind == IndexKind::kExact || kind == IndexKind::kFaissFlat;
    json document = Document();
    document["index"]["kind"] = name;
    document["index"]["effort"] = all_rows ? 0 : 8;
    CHECK(ParseManifest(document.dump(), "here").index.kind == kind);
    document["index"]["effort"] = all_rows ? 8 : 0;
    CHECK(Mentions(Refusal(document.dump()), "index.effort: expected "));
  }
}

TEST_CASE("One resized side decides when the shorter side is meant") {
  json document = Document();
  document["preprocess"]["resize"] = "shorter_side";
  CHECK_NOTHROW(ParseManifest(document.dump(), "here"));
  document["preprocess"]["resize_width"] = 65;
  CHECK(Mentions(Refusal(document.dump()), "preprocess.resize_width: expected equal"));
}

TEST_CASE("Another format version is refused with what to do") {
  for (const json& version : {json(0), json(1), json(4), json("3"), json(true), json(nullptr),
                              json(1.5), json::array({1}), json(1e30)}) {
    const std::string message = Refusal(With("format_version", version));
    CHECK(Mentions(message, "format_version: expected 3, got "));
    CHECK(Mentions(message, "as new as the artifact"));
  }
  CHECK(Mentions(Refusal(With("format_version", 2)),
                 "format_version: expected 3, got 2; convert the artifact with `patchcore-runtime "
                 "upgrade ARTIFACT --output NEW`"));
}

TEST_CASE("What is no manifest is refused") {
  const std::string deep(100000, '[');
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"), std::string("1"),
        std::string("\"x\""), std::string("{}"), deep, "\xEF\xBB\xBF" + Document().dump(),
        std::string("{\"format\": \"\xFF\"}")}) {
    CHECK(Refusal(text) != "(taken)");
  }
}

TEST_CASE("Numbers that JSON or float64 does not know are refused") {
  std::string text = Document().dump();
  const std::size_t place = text.find("\"sigma_px\":") + 11;
  const std::size_t length = text.find_first_of(",}", place) - place;
  for (const char* token : {"NaN", "Infinity", "-Infinity", "1e999", "0x10", "1."}) {
    CAPTURE(token);
    CHECK(Mentions(Refusal(std::string(text).replace(place, length, token)), "sigma_px"));
  }
  const std::string huge = "1" + std::string(400, '0');
  CHECK(Mentions(Refusal(std::string(text).replace(place, length, huge)),
                 "scoring.sigma_px: 1000000000000000000000000000000000000000 is larger"));
}

TEST_CASE("A field given twice is refused because readers would disagree") {
  const std::string text = Document().dump();
  const std::size_t place = text.find("\"sigma_px\":");
  CHECK(Mentions(Refusal(std::string(text).insert(place, "\"sigma_px\":9.0,")),
                 "scoring.sigma_px: given twice"));
  CHECK(Mentions(Refusal("{\"config\":{\"a\":{\"b\":1,\"b\":2}}}"), "config.a.b: given twice"));
}

TEST_CASE("Values and depth are limited before anything is built") {
  std::string many = "[";
  for (int i = 0; i < (1 << 20); ++i) many += "0,";
  CHECK(Mentions(Refusal(many + "this is not JSON"), "more than 1048576 values"));
  many = many.substr(0, many.size() - 1) + "]";  // one comma less
  CHECK(Mentions(Refusal(many), "is not a PatchCore artifact"));
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  CHECK(Mentions(Refusal(nested(200)), "is not a PatchCore artifact"));
  CHECK(Mentions(Refusal(nested(201)), "nested too deeply"));
  CHECK(Mentions(Refusal(nested(100000)), "nested too deeply"));
}

TEST_CASE("A message stays on one line whatever a field is called") {
  CHECK(Mentions(Refusal("{\"format\":\"patchcore-artifact\",\"format_version\":3,\"a\\nb\":1}"),
                 "a?b: unknown field"));
}

}  // namespace

TEST_CASE("What a message shows of a file is UTF-8 whatever the file holds") {
  REQUIRE(patchcore::Printable("a\nb\x7F", 9) == "a?b?");
  REQUIRE(patchcore::Printable("Gr\u00f6\u00dfe \u2713 \U0001F600", 99) ==
          "Gr\u00f6\u00dfe \u2713 \U0001F600");
  REQUIRE(patchcore::Printable("\u2713\u2713", 5) == "\u2713");  // never half a character
  for (const char* bad : {"\xFF", "\x80", "\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xE2\x9C",
                          "\xF4\x90\x80\x80", "\xC3"}) {
    REQUIRE(patchcore::Printable(bad, 9) == std::string(std::strlen(bad), '?'));
  }
}
