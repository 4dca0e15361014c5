// engine/mindspore_backend.cpp against a double of MindSpore's API, in both flavours; see
// mindspore_double/mindspore_double.hpp for what that shows and what it does not.
#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <thread>

#include "artifact/engine_files.hpp"
#include "detector.hpp"
#include "engine/backend.hpp"
#include "engine/onnx_file.hpp"
#include "errors.hpp"
#include "half.hpp"
#include "search/engine_search.hpp"
#include "selftest.hpp"
#include "tests/engine/mindspore_double/mindspore_double.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/drawn_layers.hpp"
#include "tests/support/files.hpp"
#include "tests/support/scratch.hpp"

namespace {

namespace fs = std::filesystem;
using mindspore_double::Behaviour;
using mindspore_double::Flavour;
using patchcore::Artifact;
using patchcore::BackendError;
using patchcore::Device;

// Sets the double's behaviour for one test.
struct Behaving {
  explicit Behaving(Flavour flavour) { behaviour.flavour = flavour; }
  ~Behaving() { behaviour = Behaviour(); }
  Behaving(const Behaving&) = delete;
  Behaving& operator=(const Behaving&) = delete;
  Behaviour& behaviour = mindspore_double::Current();
};

patchcore::BackendOptions OnAscend(std::uint32_t device_id = 0) {
  patchcore::BackendOptions options;
  options.device = Device::kAscend;
  options.device_id = device_id;
  return options;
}

patchcore::Input SelfTestInput(const Artifact& artifact) {
  return patchcore::FitToInput(patchcore::ReadImage(artifact.Path(patchcore::kSelftestImage)),
                               artifact.manifest().preprocess);
}

bool Close(const std::vector<float>& left, const std::vector<float>& right) {
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [](float a, float b) { return std::abs(a - b) <= 1e-5F; });
}

std::string FeaturesRefusal(const Artifact& artifact, std::size_t count = 1) {
  const auto engine = patchcore::MakeBackend(EngineFilesOf(artifact), OnAscend());
  std::vector<std::uint8_t> images;
  for (std::size_t i = 0; i < count; ++i) {
    const auto input = SelfTestInput(artifact);
    images.insert(images.end(), input.pixels.begin(), input.pixels.end());
  }
  return Refusal<BackendError>([&] { engine->Features(images.data(), count); });
}

}  // namespace

TEST_CASE("the self-test passes through both flavours of the API") {
  const Behaving behaving(GENERATE(Flavour::kLite, Flavour::kOlderSdk));
  const Artifact artifact = Artifact::Open(PATCHCORE_TINY);
  patchcore::Detector detector(artifact, OnAscend(), patchcore::Search::kEngine);
  for (const auto& step : patchcore::RunSelfTest(artifact, detector)) {
    INFO(step.name << " differs by " << step.difference);
    REQUIRE(step.Passed());
  }
  REQUIRE(detector.EngineName() == "MindSpore on ascend 0");
}

TEST_CASE("the same layers come out as through ONNX Runtime") {
  const Behaving behaving(GENERATE(Flavour::kLite, Flavour::kOlderSdk));
  behaving.behaviour.swapped_outputs = GENERATE(false, true);
  const Artifact artifact = Artifact::Open(PATCHCORE_TINY);
  const auto input = SelfTestInput(artifact);
  const auto reference =
      patchcore::MakeBackend(EngineFilesOf(artifact), {})->Features(input.pixels.data(), 1);
  const auto got =
      patchcore::MakeBackend(EngineFilesOf(artifact), OnAscend())->Features(input.pixels.data(), 1);
  REQUIRE(got.size() == 2);
  for (std::size_t i = 0; i < got.size(); ++i) {
    REQUIRE(got[i].shape == reference[i].shape);
    REQUIRE(got[i].values == reference[i].values);
  }
}

TEST_CASE("layers of one shape come in the order of the list") {
  const Behaving behaving(GENERATE(Flavour::kLite, Flavour::kOlderSdk));
  // A network on 2 x 4 pixels, each a patch, whose layers are the colours, twice and four times.
  using patchcore::OnnxNode;
  using patchcore::OnnxType;
  const auto factor = [](const std::string& name, float value) {
    const std::string bytes(reinterpret_cast<const char*>(&value), sizeof(value));
    return patchcore::OnnxTensor(name, OnnxType::kFloat, {}, bytes);
  };
  patchcore::OnnxGraph graph{"colours", {}, {factor("two", 2), factor("four", 4)}, {}, {}};
  const std::vector<std::int64_t> first{0, 3, 1, 2};
  graph.nodes = {OnnxNode("Cast", {"images"}, {"floats"}, "floats", {{"to", std::int64_t{1}}}),
                 OnnxNode("Transpose", {"floats"}, {"planes"}, "planes", {{"perm", first}}),
                 OnnxNode("Mul", {"planes", "two"}, {"block3"}, "block3"),
                 OnnxNode("Mul", {"planes", "four"}, {"block7"}, "block7")};
  graph.inputs = {patchcore::OnnxEnd("images", OnnxType{2}, {2, 4, 3})};  // uint8
  for (const char* name : {"block3", "block7"}) {
    graph.outputs.push_back(patchcore::OnnxEnd(name, OnnxType::kFloat, {3, 2, 4}));
  }
  const Scratch folder;
  const fs::path onnx = folder.path() / "features.onnx";
  WriteFile(onnx, patchcore::SearchModel(graph));
  patchcore::EngineFiles files;
  files.features_onnx = onnx;  // the double runs it in place of the .mindir file
  files.features_mindir = fs::path(onnx).replace_extension(".mindir");
  WriteFile(files.features_mindir, "");
  files.layout = LayoutOf({{3, 1}, {3, 1}}, 2, 4, patchcore::Upsampling::kBilinear, 1);
  files.layout.layers[0].name = "block3";
  files.layout.layers[1].name = "block7";
  files.has_mindir = true;
  files.verify = [](const fs::path&) {};
  patchcore::BackendOptions on_ascend = OnAscend(), on_cpu;
  on_ascend.search = on_cpu.search = false;
  std::vector<std::uint8_t> images(2 * 2 * 4 * 3);
  for (std::size_t i = 0; i < images.size(); ++i) images[i] = static_cast<std::uint8_t>(i + 1);
  for (const auto& options : {on_ascend, on_cpu}) {
    const auto layers = patchcore::MakeBackend(files, options)->Features(images.data(), 2);
    REQUIRE(layers.size() == 2);
    for (std::size_t i = 0; i < 24; ++i) REQUIRE(layers[1].values[i] == 2 * layers[0].values[i]);
    REQUIRE(layers[0].values[0] == 2);
    REQUIRE(layers[0].values[1] == 8);
  }
}

TEST_CASE("answers in half precision stay within its rounding") {
  const Behaving behaving(Flavour::kLite);
  behaving.behaviour.half_outputs = true;
  const Artifact artifact = Artifact::Open(PATCHCORE_TINY);
  const auto input = SelfTestInput(artifact);
  const auto reference =
      patchcore::MakeBackend(EngineFilesOf(artifact), {})->Features(input.pixels.data(), 1);
  const auto got =
      patchcore::MakeBackend(EngineFilesOf(artifact), OnAscend())->Features(input.pixels.data(), 1);
  for (std::size_t i = 0; i < got[0].values.size(); ++i) {
    const float exact = reference[0].values[i];
    REQUIRE(std::abs(got[0].values[i] - exact) <= std::abs(exact) / 2048 + 1e-7F);
  }
}

TEST_CASE("a dynamic batch is resized, and again") {
  const Behaving behaving(Flavour::kLite);
  const Artifact artifact = Artifact::Open(PATCHCORE_TINY);
  const auto engine = patchcore::MakeBackend(EngineFilesOf(artifact), OnAscend());
  const auto one = SelfTestInput(artifact).pixels;
  auto three = one;
  for (int i = 0; i < 2; ++i) three.insert(three.end(), one.begin(), one.end());
  REQUIRE(engine->Features(one.data(), 1)[0].shape.front() == 1);
  REQUIRE(engine->Features(three.data(), 3)[0].shape.front() == 3);
  REQUIRE(engine->Features(one.data(), 1)[1].shape.front() == 1);
}

TEST_CASE("whatever batch a model was converted for, every image gets its own layers") {
  const Behaving behaving(GENERATE(Flavour::kLite, Flavour::kOlderSdk));
  const int fixed = GENERATE(1, 2, 4);
  const std::size_t count = GENERATE(1, 3, 4, 5);
  behaving.behaviour.fixed_batch = fixed;
  const Artifact artifact = Artifact::Open(PATCHCORE_TINY);
  std::vector<std::uint8_t> images;
  for (std::size_t i = 0; i < count; ++i) {
    auto pixels = SelfTestInput(artifact).pixels;
    std::rotate(pixels.begin(), pixels.begin() + static_cast<std::ptrdiff_t>(3 * i), pixels.end());
    images.insert(images.end(), pixels.begin(), pixels.end());
  }
  const auto reference =
      patchcore::MakeBackend(EngineFilesOf(artifact), {})->Features(images.data(), count);
  const auto got =
      patchcore::MakeBackend(EngineFilesOf(artifact), OnAscend())->Features(images.data(), count);
  for (std::size_t i = 0; i < got.size(); ++i) {
    REQUIRE(got[i].shape == reference[i].shape);
    REQUIRE(Close(got[i].values, reference[i].values));
  }
  const int batches = (static_cast<int>(count) + fixed - 1) / fixed;
  REQUIRE(behaving.behaviour.runs == batches);
}

TEST_CASE("a detector's batch on a fixed batch gives what single images give") {
  const Behaving behaving(Flavour::kLite);
  behaving.behaviour.fixed_batch = 4;
  const Artifact artifact = Artifact::Open(PATCHCORE_TINY);
  patchcore::Detector detector(artifact, OnAscend(), patchcore::Search::kEngine);
  std::vector<patchcore::Input> inputs(6, SelfTestInput(artifact));
  std::vector<const patchcore::Input*> batch;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    for (std::uint8_t& pixel : inputs[i].pixels) pixel = static_cast<std::uint8_t>(pixel + 9 * i);
    batch.push_back(&inputs[i]);
  }
  const auto together = detector.PredictBatch(batch);
  REQUIRE(together.size() == inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto alone = detector.Predict(inputs[i]);
    REQUIRE(std::abs(together[i].score - alone.score) <= 1e-5 * alone.score);
    REQUIRE(Close(together[i].anomaly_map, alone.anomaly_map));
  }
  REQUIRE(detector.PredictBatch({}).empty());
}

TEST_CASE("workers take turns at an engine that runs one thing at a time") {
  const Behaving behaving(Flavour::kLite);
  const Artifact artifact = Artifact::Open(PATCHCORE_TINY);
  patchcore::Detector detector(artifact, OnAscend(), patchcore::Search::kEngine);
  const auto input = SelfTestInput(artifact);
  const double alone = detector.Predict(input).score;
  std::array<double, 4> scores{};
  std::vector<std::thread> workers;
  for (double& score : scores) {
    workers.emplace_back([&] { score = detector.Predict(input).score; });
  }
  for (std::thread& worker : workers) worker.join();
  for (const double score : scores) REQUIRE(score == alone);
  REQUIRE(behaving.behaviour.runs == 5);
}

TEST_CASE("a model for images of another size is refused with what to do") {
  const Behaving behaving(Flavour::kLite);
  behaving.behaviour.fixed_batch = 2;
  behaving.behaviour.wrong_input_shape = true;
  const std::string message = FeaturesRefusal(Artifact::Open(PATCHCORE_TINY), 2);
  REQUIRE(Mentions(message, "expected one uint8 input (2, 64, 64, 3)"));
  REQUIRE(Mentions(message, "got (2, 3, 64, 64)"));
  REQUIRE(Mentions(message, "convert the artifact's features.mindir again"));
}

TEST_CASE("an absent device is one line that names it and what to check") {
  const Behaving behaving(GENERATE(Flavour::kLite, Flavour::kOlderSdk));
  const Artifact artifact = Artifact::Open(PATCHCORE_TINY);
  const std::string message =
      Refusal<BackendError>([&] { patchcore::MakeBackend(EngineFilesOf(artifact), OnAscend(7)); });
  REQUIRE(Mentions(message, "features.mindir: MindSpore cannot run it on ascend 7"));
  REQUIRE(Mentions(message, "aclrtSetDevice failed, device not found"));
  REQUIRE(Mentions(message, "npu-smi info"));
  REQUIRE_FALSE(Mentions(message, "\n"));
}

TEST_CASE("failures and exceptions while it runs become one line") {
  const Behaving behaving(GENERATE(Flavour::kLite, Flavour::kOlderSdk));
  const Artifact artifact = Artifact::Open(PATCHCORE_TINY);
  SECTION("a status") {
    behaving.behaviour.fails_on_predict = true;
    REQUIRE(Mentions(FeaturesRefusal(artifact), "cannot run the graph (Execute model failed.)"));
  }
  SECTION("an exception") {
    behaving.behaviour.throws_on_predict = true;
    REQUIRE(Mentions(FeaturesRefusal(artifact), "cannot run the graph (aclmdlExecute failed)"));
  }
}

TEST_CASE("a model of another artifact is refused by its shapes") {
  const Behaving behaving(GENERATE(Flavour::kLite, Flavour::kOlderSdk));
  const Artifact artifact = Artifact::Open(PATCHCORE_TINY);
  SECTION("an output of another shape") {
    behaving.behaviour.wrong_output_shape = true;
    REQUIRE(Mentions(FeaturesRefusal(artifact),
                     "expected an output (1, 12, 4, 4) as manifest.json says, got (1, 8, 8, 8), "
                     "(1, 4, 12, 4)"));
  }
  SECTION("no output") {
    behaving.behaviour.no_outputs = true;
    REQUIRE(Mentions(FeaturesRefusal(artifact), "got none"));
  }
  SECTION("an input of another type") {
    behaving.behaviour.float_input = true;
    REQUIRE(Mentions(FeaturesRefusal(artifact), "expected one uint8 input"));
    REQUIRE(Mentions(FeaturesRefusal(artifact), "of another type"));
  }
}

TEST_CASE("the artifact's model is checked against its sum, a converted one is not listed") {
  const Behaving behaving(Flavour::kLite);
  const Scratch scratch;
  const fs::path own = scratch.path() / "own";
  fs::copy(PATCHCORE_TINY, own);
  const Artifact artifact = Artifact::Open(own);
  fs::permissions(own / "features.mindir", fs::perms::owner_all);
  std::ofstream(own / "features.mindir", std::ios::app) << "x";
  REQUIRE(Mentions(Refusal<patchcore::ArtifactError>(
                       [&] { patchcore::MakeBackend(EngineFilesOf(artifact), OnAscend()); }),
                   "features.mindir"));
  patchcore::BackendOptions converted = OnAscend();
  converted.mindir = (scratch.path() / "converted.mindir").string();
  fs::copy(own / "features.mindir", converted.mindir);
  fs::copy(own / "features.onnx", scratch.path() / "converted.onnx");  // for the double
  REQUIRE_NOTHROW(patchcore::MakeBackend(EngineFilesOf(artifact), converted));
}

TEST_CASE("an int8 artifact is refused, since its bank fits features.onnx alone") {
  const Behaving behaving(Flavour::kLite);
  const Scratch scratch;
  const fs::path own = scratch.path() / "own";
  fs::copy(PATCHCORE_TINY, own);
  const fs::path path = own / "manifest.json";
  std::ifstream file(path);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  file.close();
  const std::string mindir = "\"mindir\": \"float32\"";
  text.replace(text.find(mindir), mindir.size(), "\"mindir\": \"none\"");
  const std::string candidates = "\"mindir_candidates\": 8";
  text.replace(text.find(candidates), candidates.size(), "\"mindir_candidates\": 0");
  fs::permissions(path, fs::perms::owner_all);
  std::ofstream(path) << text;
  const Artifact artifact = Artifact::Open(own, false);
  const std::string refusal = Refusal<patchcore::ArtifactError>(
      [&] { patchcore::MakeBackend(EngineFilesOf(artifact), OnAscend()); });
  REQUIRE(Mentions(refusal, "features.mindir: expected float32 for MindSpore, got none"));
  REQUIRE(Mentions(refusal, "fit again without --quantize"));
}

TEST_CASE("half precision is read exactly") {
  REQUIRE(patchcore::FromHalf(0x0000) == 0.0F);
  REQUIRE(patchcore::FromHalf(0x3C00) == 1.0F);
  REQUIRE(patchcore::FromHalf(0xC000) == -2.0F);
  REQUIRE(patchcore::FromHalf(0x7BFF) == 65504.0F);
  REQUIRE(patchcore::FromHalf(0x0400) == std::ldexp(1.0F, -14));
  REQUIRE(patchcore::FromHalf(0x0001) == std::ldexp(1.0F, -24));
  REQUIRE(std::isinf(patchcore::FromHalf(0xFC00)));
  REQUIRE(std::isnan(patchcore::FromHalf(0x7E00)));
}

namespace {

using mindspore_double::Lie;

// The tiny artifact's self-test image: rows and distances by the device's shortlist, and by the
// host alone.
struct Searched {
  explicit Searched(const patchcore::BackendOptions& options = OnAscend())
      : artifact(Artifact::Open(PATCHCORE_TINY)),
        engine(patchcore::MakeBackend(EngineFilesOf(artifact), options)),
        search(*engine, artifact.bank(), artifact.manifest().layout(), 1) {
    const auto input = SelfTestInput(artifact);
    layers = engine->Features(input.pixels.data(), 1);
  }
  patchcore::NearestRows Nearest() { return search.Nearest(layers); }

  Artifact artifact;
  std::unique_ptr<patchcore::Backend> engine;
  patchcore::EngineSearch search;
  patchcore::Layers layers;
};

}  // namespace

TEST_CASE("rows and distances are the exact search's, whatever the device rounds or hides") {
  const Behaving behaving(GENERATE(Flavour::kLite, Flavour::kOlderSdk));
  behaving.behaviour.half_outputs = GENERATE(false, true);
  behaving.behaviour.swapped_outputs = GENERATE(false, true);
  behaving.behaviour.lie =
      GENERATE(Lie::kNone, Lie::kReversed, Lie::kHiddenWinner, Lie::kOtherScores);
  Searched searched;
  REQUIRE(patchcore::EngineSearch::Serves(*searched.engine));
  const auto got = searched.Nearest();
  const patchcore::PortableIndex index(searched.artifact.bank(),
                                       searched.artifact.manifest().layout(), 1);
  const auto exact = index.Nearest(searched.layers);
  REQUIRE(got.rows == exact.rows);
  REQUIRE(got.distances == exact.distances);
  const bool honest =
      behaving.behaviour.lie == Lie::kNone || behaving.behaviour.lie == Lie::kReversed;
  const std::string decided = "the device's shortlist decided 64 patches, the host 0";
  if (honest) REQUIRE(searched.search.Note() == decided);
  if (behaving.behaviour.lie == Lie::kOtherScores) {
    REQUIRE(Mentions(searched.search.Note(), "decided 0 patches, the host 64"));
  }
}

TEST_CASE("a shortlist that cannot be true is refused in one line") {
  const Behaving behaving(GENERATE(Flavour::kLite, Flavour::kOlderSdk));
  const auto refusal = [] {
    Searched searched;
    return Refusal<BackendError>([&] { searched.Nearest(); });
  };
  SECTION("rows") {
    behaving.behaviour.lie = Lie::kRowTooLarge;
    REQUIRE(Mentions(refusal(), "index.mindir: patch 0: expected rows 0 to 37, got 38"));
    behaving.behaviour.lie = Lie::kNegativeRow;
    REQUIRE(Mentions(refusal(), "got -1"));
    behaving.behaviour.lie = Lie::kSameRow;
    REQUIRE(Mentions(refusal(), "expected different rows"));
  }
  SECTION("scores") {
    behaving.behaviour.lie = Lie::kNotANumber;
    REQUIRE(Mentions(refusal(), "expected finite scores, got nan"));
    behaving.behaviour.lie = Lie::kNone;
    behaving.behaviour.integer_scores = true;
    REQUIRE(Mentions(refusal(), "expected an output (64, 8) as manifest.json says"));
  }
}

TEST_CASE("a shortlist of another shape is refused with what was expected") {
  const Behaving behaving(Flavour::kLite);
  Searched searched;
  behaving.behaviour.wrong_output_shape = true;
  REQUIRE(Mentions(Refusal<BackendError>([&] { searched.Nearest(); }),
                   "expected an output (64, 8) as manifest.json says, got (64, 7), (64, 7)"));
  behaving.behaviour.wrong_output_shape = false;
  behaving.behaviour.float_input = true;
  REQUIRE(Mentions(Refusal<BackendError>([&] { searched.Nearest(); }),
                   "expected one float32 input (64, 24), got (64, 24) of another type; convert "
                   "the artifact's index.mindir again, for that many patches"));
}

TEST_CASE("the device searches only where it is asked to and the artifact has a shortlist") {
  const Behaving behaving(Flavour::kLite);
  patchcore::BackendOptions options = OnAscend();
  options.search = false;
  REQUIRE_FALSE(patchcore::EngineSearch::Serves(*Searched(options).engine));
  options.search = true;
  options.index_mindir = "index_nowhere.mindir";
  REQUIRE_THROWS_AS(Searched(options), std::exception);
}
