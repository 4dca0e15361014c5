#include "engine/onnx_file.hpp"

#include <cstring>

#include "files/protobuf.hpp"

namespace patchcore {
namespace {

constexpr std::uint64_t kFloatKind = 1, kIntKind = 2, kIntsKind = 7;  // AttributeType
constexpr std::uint64_t kOpset = 17, kIrVersion = 8;

std::uint64_t Unsigned(std::int64_t value) { return static_cast<std::uint64_t>(value); }

std::string Attribute(const std::string& name, const OnnxAttribute& value) {
  std::string bytes = BytesField(1, name);
  if (const auto* number = std::get_if<std::int64_t>(&value)) {
    return bytes + IntegerField(3, Unsigned(*number)) + IntegerField(20, kIntKind);
  }
  if (const auto* real = std::get_if<float>(&value)) {
    char content[sizeof(float)];
    std::memcpy(content, real, sizeof(float));
    return bytes + Fixed32Field(2, {content, sizeof(float)}) + IntegerField(20, kFloatKind);
  }
  for (const std::int64_t item : std::get<Sides>(value)) bytes += IntegerField(8, Unsigned(item));
  return bytes + IntegerField(20, kIntsKind);
}

std::string Dims(const Sides& shape) {
  std::string bytes;
  for (const std::int64_t side : shape) bytes += IntegerField(1, Unsigned(side));
  return bytes;
}

std::string Fields(std::uint64_t number, const Names& contents) {
  std::string bytes;
  for (const std::string& content : contents) bytes += BytesField(number, content);
  return bytes;
}

std::uint64_t Number(OnnxType type) { return static_cast<std::uint64_t>(type); }

}  // namespace

std::string OnnxNode(const std::string& kind, const Names& inputs, const Names& outputs,
                     const std::string& name, const OnnxAttributes& attributes) {
  std::string bytes =
      Fields(1, inputs) + Fields(2, outputs) + BytesField(3, name) + BytesField(4, kind);
  for (const auto& [key, value] : attributes) bytes += BytesField(5, Attribute(key, value));
  return bytes;
}

std::string OnnxTensor(const std::string& name, OnnxType type, const Sides& shape,
                       std::string_view content) {
  return Dims(shape) + IntegerField(2, Number(type)) + BytesField(8, name) + BytesField(9, content);
}

std::string ExternalTensor(const std::string& name, OnnxType type, const Sides& shape,
                           const std::string& place) {
  return Dims(shape) + IntegerField(2, Number(type)) + BytesField(8, name) + place;
}

std::string ExternalPlace(const std::string& location, std::uint64_t offset, std::uint64_t length) {
  const std::pair<std::string_view, std::string> entries[] = {{"location", location},
                                                              {"offset", std::to_string(offset)},
                                                              {"length", std::to_string(length)}};
  std::string bytes;
  for (const auto& [key, value] : entries) {
    bytes += BytesField(13, BytesField(1, key) + BytesField(2, value));
  }
  return bytes + IntegerField(14, 1);
}

std::string OnnxEnd(const std::string& name, OnnxType type, const Sides& sides) {
  std::string shape = BytesField(1, BytesField(2, "B"));
  for (const std::int64_t side : sides) shape += BytesField(1, IntegerField(1, Unsigned(side)));
  const std::string tensor = IntegerField(1, Number(type)) + BytesField(2, shape);
  return BytesField(1, name) + BytesField(2, BytesField(1, tensor));
}

std::string SearchModel(const OnnxGraph& graph) {
  const std::string content = Fields(1, graph.nodes) + BytesField(2, graph.name) +
                              Fields(5, graph.tensors) + Fields(11, graph.inputs) +
                              Fields(12, graph.outputs);
  return IntegerField(1, kIrVersion) + BytesField(2, "patchcore-build") + BytesField(7, content) +
         BytesField(8, BytesField(1, "") + IntegerField(2, kOpset));
}

}  // namespace patchcore
