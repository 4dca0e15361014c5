// Real inference through ONNX Runtime on the golden artifact, and refusals of what cannot run.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "artifact/engine_files.hpp"
#include "detector.hpp"
#include "engine/backend.hpp"
#include "errors.hpp"
#include "image/decode.hpp"
#include "image/preprocess.hpp"
#include "selftest.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/scratch.hpp"

namespace {

namespace fs = std::filesystem;

// A copy of artifacts/tiny to damage.
struct OwnArtifact : Scratch {
  OwnArtifact() {
    fs::copy(PATCHCORE_TINY, path(), fs::copy_options::recursive);
    for (const auto& entry : fs::directory_iterator(path())) {
      fs::permissions(entry.path(), fs::perms::owner_write, fs::perm_options::add);
    }
  }
};

patchcore::Input SelfTestInput(const patchcore::Artifact& artifact) {
  return patchcore::FitToInput(patchcore::ReadImage(artifact.Path(patchcore::kSelftestImage)),
                               artifact.manifest().preprocess);
}

}  // namespace

TEST_CASE("the golden artifact passes its self-test with both searches") {
  const auto search = GENERATE(patchcore::Search::kEngine, patchcore::Search::kPortable);
  const auto artifact = patchcore::Artifact::Open(PATCHCORE_TINY);
  patchcore::Detector detector(artifact, {}, search);
  const auto steps = patchcore::RunSelfTest(artifact, detector);
  REQUIRE(steps.size() == 4);
  for (const auto& step : steps) {
    INFO(step.name << " differs by " << step.difference);
    REQUIRE(step.Passed());
  }
}

TEST_CASE("a batch gives what its images give alone") {
  const auto artifact = patchcore::Artifact::Open(PATCHCORE_TINY);
  const auto engine = patchcore::MakeBackend(EngineFilesOf(artifact), {});
  const auto first = SelfTestInput(artifact).pixels;
  auto second = first;
  std::reverse(second.begin(), second.end());
  auto both = first;
  both.insert(both.end(), second.begin(), second.end());
  const auto together = engine->Features(both.data(), 2);
  const auto alone = engine->Features(second.data(), 1);
  REQUIRE(together.at(0).shape.front() == 2);
  const auto tail = [](const patchcore::Tensor& batch, const patchcore::Tensor& one) {
    const auto start = batch.values.end() - static_cast<std::ptrdiff_t>(one.values.size());
    return std::equal(start, batch.values.end(), one.values.begin(),
                      [](float a, float b) { return std::abs(a - b) <= 1e-5F; });
  };
  for (std::size_t i = 0; i < together.size(); ++i) REQUIRE(tail(together[i], alone.at(i)));
}

TEST_CASE("a detector's batch gives what its images give alone") {
  const auto search = GENERATE(patchcore::Search::kEngine, patchcore::Search::kPortable);
  const auto artifact = patchcore::Artifact::Open(PATCHCORE_TINY);
  patchcore::Detector detector(artifact, {}, search);
  std::vector<patchcore::Input> inputs(3, SelfTestInput(artifact));
  std::reverse(inputs[1].pixels.begin(), inputs[1].pixels.end());
  inputs[2].pixels.assign(inputs[2].pixels.size(), 200);
  const auto together = detector.PredictBatch({&inputs[0], &inputs[1], &inputs[2]});
  REQUIRE(together.size() == inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto alone = detector.Predict(inputs[i]);
    REQUIRE(std::abs(together[i].score - alone.score) <= 1e-5 * alone.score);
    REQUIRE(together[i].verdict == alone.verdict);
    REQUIRE(together[i].peak == alone.peak);
  }
  REQUIRE(together[0].score != together[1].score);
}

TEST_CASE("the engine's search and the portable one agree") {
  const auto artifact = patchcore::Artifact::Open(PATCHCORE_TINY);
  const auto engine = patchcore::MakeBackend(EngineFilesOf(artifact), {});
  REQUIRE(engine->HasSearch());
  const auto layers = engine->Features(SelfTestInput(artifact).pixels.data(), 1);
  const auto theirs = engine->Nearest(layers);
  const auto ours =
      patchcore::PortableIndex(artifact.bank(), artifact.manifest().layout(), 2).Nearest(layers);
  REQUIRE(theirs.rows == ours.rows);
  for (std::size_t i = 0; i < ours.distances.size(); ++i) {
    REQUIRE(std::abs(theirs.distances[i] - ours.distances[i]) <= 1e-5F);
  }
}

TEST_CASE("without its own search the engine says so") {
  const auto artifact = patchcore::Artifact::Open(PATCHCORE_TINY);
  patchcore::BackendOptions options;
  options.search = false;
  REQUIRE_FALSE(patchcore::MakeBackend(EngineFilesOf(artifact), options)->HasSearch());
}

TEST_CASE("a graph that is no graph is refused with its path") {
  const OwnArtifact own;
  std::ofstream(own.path() / "features.onnx") << "not a graph";
  const auto artifact = patchcore::Artifact::Open(own.path(), false);
  const std::string message = Refusal<patchcore::ArtifactError>(
      [&] { patchcore::MakeBackend(EngineFilesOf(artifact), {}); });
  REQUIRE(
      Mentions(message, "features.onnx: expected an ONNX graph as the workshop writes it, got "));
}

TEST_CASE("a network whose weights lie elsewhere is refused before the engine opens it") {
  const OwnArtifact own;
  fs::remove(own.path() / "features.onnx");
  fs::copy(own.path() / "index.onnx", own.path() / "features.onnx");
  const auto artifact = patchcore::Artifact::Open(own.path(), false);
  const std::string message = Refusal<patchcore::ArtifactError>(
      [&] { patchcore::MakeBackend(EngineFilesOf(artifact), {}); });
  REQUIRE(Mentions(
      message,
      "features.onnx: expected an ONNX graph as the workshop writes it, got field 13 of a tensor"));
}

#if !defined(PATCHCORE_MINDSPORE)
TEST_CASE("a missing engine is named together with the option that brings it") {
  const auto artifact = patchcore::Artifact::Open(PATCHCORE_TINY);
  patchcore::BackendOptions options;
  options.device = patchcore::Device::kAscend;
  const std::string message = Refusal<patchcore::BackendError>(
      [&] { patchcore::MakeBackend(EngineFilesOf(artifact), options); });
  REQUIRE(Mentions(message, "built without MindSpore"));
  REQUIRE(Mentions(message, "-DPATCHCORE_MINDSPORE=ON"));
}
#endif

TEST_CASE("a self-test map of another shape or type is refused") {
  const OwnArtifact own;
  const auto artifact = patchcore::Artifact::Open(own.path(), false);
  patchcore::Detector detector(artifact, {}, patchcore::Search::kPortable);
  const fs::path map = own.path() / "selftest_map.npy";
  const auto size = fs::file_size(map);
  SECTION("cut short") { fs::resize_file(map, size - 4); }
  SECTION("longer") { fs::resize_file(map, size + 4); }
  SECTION("empty") { fs::resize_file(map, 0); }
  SECTION("gone") { fs::remove(map); }
  SECTION("of another type") {
    std::fstream file(map, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(10 + 11);  // {'descr': '<f4'
    file.write(">", 1);
  }
  const std::string message =
      Refusal<patchcore::ArtifactError>([&] { patchcore::RunSelfTest(artifact, detector); });
  REQUIRE(Mentions(message, "selftest_map.npy: "));
}
