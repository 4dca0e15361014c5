// A feature network's ONNX file <-> its messages, by the table in onnx_fields.csv; the twin of
// patchcore_runtime/engine/onnx_model.py.
//
// The table has the messages and fields that the workshop writes. Anything else is refused: other
// fields, wire types and orders, and single fields that are repeated. So this reader and ONNX
// Runtime see the same model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "files/regular.hpp"

namespace patchcore {

struct OnnxValue;

// The fields of a message, by name.
class OnnxMessage {
 public:
  bool Has(std::string_view name) const;
  // All values of a field, in the order of the file.
  const std::vector<OnnxValue>& Many(std::string_view name) const;
  // The value of a field that the message has.
  const OnnxValue& One(std::string_view name) const { return Many(name).front(); }
  // A text, empty if it is missing.
  std::string_view Text(std::string_view name) const;
  // The numbers of a field, for instance `ints`.
  std::vector<std::int64_t> Numbers(std::string_view name) const;

  void Add(std::string_view name, OnnxValue value);

 private:
  std::map<std::string_view, std::vector<OnnxValue>> fields_;
};

// One value; its field's content decides which member it is.
struct OnnxValue {
  std::int64_t number = 0;
  std::vector<std::int64_t> numbers;  // of packed fields
  std::string_view bytes;             // of texts, floats and raw data, in the mapped file
  OnnxMessage message;
};

// A model, and the file that its bytes lie in.
struct OnnxModel {
  MappedFile file;
  OnnxMessage root;
};

// Throws ArtifactError: the file cannot be read, or has anything that the table does not have.
OnnxModel ReadModel(const std::filesystem::path& path);

// Smaller tensors, such as shapes, are needed before the weights.
inline constexpr std::size_t kLargeTensor = 64 * 1024;

// The model, serialised. Raw data of `least_bytes` or more becomes external data in the file.
//   location   the file's name
std::string ModelBytes(const OnnxModel& model, const std::string& location,
                       std::size_t least_bytes = kLargeTensor);

}  // namespace patchcore
