// An ONNX graph without its weights: ONNX Runtime maps them from their file; the twin of
// patchcore_runtime/engine/mapped_weights.py.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace patchcore {

// The graph of a file, serialised, with its large tensors as external data that stay in the file.
// Load it with the file's folder as the folder of external data.
//   least_bytes   of a large tensor; smaller ones, such as shapes, are needed before weights
// Throws ArtifactError: the file cannot be read or is no protobuf.
std::string GraphInPlace(const std::filesystem::path& path, std::size_t least_bytes = 64 * 1024);

}  // namespace patchcore
