// An ONNX graph without its weights: ONNX Runtime maps them from the file that has them; twin of
// mapped_weights.py.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace patchcore {

// The graph of a file, serialised; its large tensors stay where they are, as external data. To be
// loaded with the file's folder as that of external data.
//   least_bytes   of a large tensor; smaller ones, shapes among them, are wanted before weights are
// Throws ArtifactError: the file cannot be read or is no protobuf.
std::string GraphInPlace(const std::filesystem::path& path, std::size_t least_bytes = 64 * 1024);

}  // namespace patchcore
