// A graph whose weights are left in place is the graph of the file, tensor by tensor.
#include <algorithm>
#include <string>

#include "engine/mapped_weights.hpp"
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

// What GraphInPlace makes of a model, and where the model is.
struct Written {
  explicit Written(const std::string& model) : path(folder.path() / "graph.onnx") {
    WriteFile(path, model);
  }
  Scratch folder;
  std::filesystem::path path;
};

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
  REQUIRE(patchcore::GraphInPlace(written.path) == Model(BytesField(5, lean) + small));
}

TEST_CASE("a tensor that lies elsewhere, or gives its values twice, stays as it is") {
  const std::string values = Numbers(kLarge);
  const auto more = GENERATE_COPY(std::string(IntegerField(14, 0)), BytesField(9, values),
                                  BytesField(13, BytesField(1, "location") + BytesField(2, "x")));
  const std::string model = Model(BytesField(5, Tensor("large", values, more)));
  REQUIRE(patchcore::GraphInPlace(Written(model).path) == model);
}

TEST_CASE("what is no graph is refused with its path") {
  const auto content = GENERATE(std::string(), std::string(40, '\xff'), std::string("\x3a\x7f"));
  const Written written(content);
  const std::string message =
      Refusal<patchcore::ArtifactError>([&] { patchcore::GraphInPlace(written.path); });
  REQUIRE(Mentions(message, "graph.onnx: expected an ONNX graph, got "));
}

TEST_CASE("a missing graph is refused with its path") {
  const Scratch folder;
  const std::string message = Refusal<patchcore::ArtifactError>(
      [&] { patchcore::GraphInPlace(folder.path() / "graph.onnx"); });
  REQUIRE(Mentions(message, "graph.onnx: No such file"));
}
