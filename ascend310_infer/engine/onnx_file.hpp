// Write ONNX files: nodes, tensors and values as protobuf bytes; the twin of
// patchcore_runtime/engine/onnx_file.py.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace patchcore {

enum class OnnxType : std::uint64_t { kFloat = 1, kInt64 = 7, kFloat16 = 10 };

using Names = std::vector<std::string>;
using Sides = std::vector<std::int64_t>;
using OnnxAttribute = std::variant<std::int64_t, float, Sides>;
// By name, in ascending order.
using OnnxAttributes = std::vector<std::pair<std::string, OnnxAttribute>>;

// A NodeProto of the default domain.
std::string OnnxNode(const std::string& kind, const Names& inputs, const Names& outputs,
                     const std::string& name, const OnnxAttributes& attributes = {});

// A TensorProto that holds its numbers; `content` are their bytes.
std::string OnnxTensor(const std::string& name, OnnxType type, const Sides& shape,
                       std::string_view content);

// A TensorProto whose numbers lie in another file; `place` is an ExternalPlace.
std::string ExternalTensor(const std::string& name, OnnxType type, const Sides& shape,
                           const std::string& place);

// The last fields of a TensorProto, which say where its numbers are.
std::string ExternalPlace(const std::string& location, std::uint64_t offset, std::uint64_t length);

// A ValueInfoProto of shape (B, sides), an input or output of the graph.
std::string OnnxEnd(const std::string& name, OnnxType type, const Sides& sides);

// The parts of a GraphProto, each serialised.
struct OnnxGraph {
  std::string name;
  Names nodes, tensors, inputs, outputs;
};

// A ModelProto, the content of an .onnx file, as the workshop writes its searches.
std::string SearchModel(const OnnxGraph& graph);

}  // namespace patchcore
