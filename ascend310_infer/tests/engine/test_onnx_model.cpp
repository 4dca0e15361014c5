// A network is read as the workshop writes it, and written again to the byte; anything else is
// refused. The index of the golden artifact is written to the byte.
#include <string>

#include "artifact/engine_files.hpp"
#include "engine/exact_graph.hpp"
#include "engine/network.hpp"
#include "engine/onnx_model.hpp"
#include "errors.hpp"
#include "files/protobuf.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"
#include "tests/support/scratch.hpp"

namespace {

using patchcore::BytesField;
using patchcore::IntegerField;

constexpr std::size_t kLarge = 64 * 1024;

std::string Numbers(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7 + i / 251);
  return bytes;
}

// A TensorProto of floats; `more` are fields behind its values.
std::string Tensor(const std::string& name, const std::string& values,
                   const std::string& more = "") {
  return IntegerField(1, values.size() / 4) + IntegerField(2, 1) + BytesField(8, name) +
         BytesField(9, values) + more;
}

std::string Model(const std::string& tensors) {
  return IntegerField(1, 8) + BytesField(7, BytesField(2, "graph") + tensors) +
         BytesField(8, IntegerField(2, 17));
}

struct Written {
  explicit Written(const std::string& model) : path(folder.path() / "graph.onnx") {
    WriteFile(path, model);
  }
  std::string Refused() const {
    return Refusal<patchcore::ArtifactError>([&] { patchcore::ReadModel(path); });
  }
  Scratch folder;
  std::filesystem::path path;
};

constexpr std::size_t kAll = std::size_t{1} << 40;

}  // namespace

TEST_CASE("a large tensor points into the file and all else stays") {
  const std::string small = BytesField(5, Tensor("small", Numbers(kLarge - 4)));
  const std::string model = Model(BytesField(5, Tensor("large", Numbers(kLarge))) + small);
  const Written written(model);
  const auto offset = model.find(Numbers(kLarge));
  const auto entry = [](const std::string& key, const std::string& value) {
    return BytesField(13, BytesField(1, key) + BytesField(2, value));
  };
  const std::string lean = IntegerField(1, kLarge / 4) + IntegerField(2, 1) +
                           BytesField(8, "large") + entry("location", "graph.onnx") +
                           entry("offset", std::to_string(offset)) +
                           entry("length", std::to_string(kLarge)) + IntegerField(14, 1);
  const auto read = patchcore::ReadModel(written.path);
  REQUIRE(patchcore::ModelBytes(read, "graph.onnx") == Model(BytesField(5, lean) + small));
  REQUIRE(patchcore::ModelBytes(read, "graph.onnx", kAll) == model);
}

TEST_CASE("the golden network is made of the workshop's operators and survives writing") {
  const std::filesystem::path path = std::filesystem::path(PATCHCORE_TINY) / "features.onnx";
  const auto model = patchcore::ReadModel(path);
  REQUIRE(patchcore::ModelBytes(model, "features.onnx", kAll) == model.file.bytes());
  const std::vector<patchcore::NetworkEnd> expected{
      {"images", {64, 64, 3}}, {"layer2", {8, 8, 8}}, {"layer3", {12, 4, 4}}};
  REQUIRE(patchcore::CheckNetwork(path, model) == expected);
}

TEST_CASE("the golden index is written again to the byte, and another is refused") {
  const auto artifact = patchcore::Artifact::Open(PATCHCORE_TINY);
  const auto files = EngineFilesOf(artifact);
  std::string graph = patchcore::ExactGraph(files.layout, files.bank);
  patchcore::ExpectContent(files.index_onnx, graph);
  graph.back() ^= 1;
  const std::string message =
      Refusal<patchcore::ArtifactError>([&] { patchcore::ExpectContent(files.index_onnx, graph); });
  REQUIRE(Mentions(message, "index.onnx: expected the search that follows from manifest.json"));
}

TEST_CASE("what a deterministic writer does not emit is refused") {
  const std::string values = Numbers(64);
  const auto [more, reason] = GENERATE_COPY(table<std::string, std::string>({
      {IntegerField(14, 0), "field 14 of a tensor"},
      {BytesField(13, BytesField(1, "location") + BytesField(2, "x")), "field 13 of a tensor"},
      {BytesField(9, values), "tensor.raw_data a second time or too late"},
      {BytesField(8, "late"), "tensor.name a second time or too late"},
      {IntegerField(9, 1), "wire type 0 of tensor.raw_data"},
      {std::string("\x78\x80\x00", 3), "a number that is not in its shortest form"},
      {std::string("\xca\x80\x80\x80\x10\x00", 6), "field number 536870921"},
      {std::string("\x49") + std::string(8, '\0'), "wire type 1"},
      {std::string("\x4b"), "wire type 3"},
  }));
  CAPTURE(reason);
  const Written written(Model(BytesField(5, Tensor("large", values, more))));
  REQUIRE(Mentions(written.Refused(),
                   "graph.onnx: expected an ONNX graph as the workshop writes "
                   "it, got " +
                       reason));
}

TEST_CASE("what is no graph is refused with its path") {
  const auto content = GENERATE(std::string(), std::string(40, '\xff'), std::string("\x3a\x7f"));
  REQUIRE(Mentions(Written(content).Refused(), "graph.onnx: expected an ONNX graph"));
}

TEST_CASE("a missing graph is refused with its path") {
  const Scratch folder;
  const std::string message = Refusal<patchcore::ArtifactError>(
      [&] { patchcore::ReadModel(folder.path() / "graph.onnx"); });
  REQUIRE(Mentions(message, "graph.onnx: No such file"));
}
