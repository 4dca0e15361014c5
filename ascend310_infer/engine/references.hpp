// Which files an ONNX graph refers to, found before ONNX Runtime opens any of them; the twin of
// patchcore_runtime/engine/references.py.
//
// Walks the protobuf messages of onnx.proto3 that can hold tensors, wherever they are nested, and
// skips all others unread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

namespace patchcore {

// Bytes [offset, offset + size) of a file.
struct ByteRange {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

// Refuses a graph that refers to any other file.
// Throws ArtifactError: it has external data, or is no protobuf.
void CheckNoReferences(const std::filesystem::path& graph);

// Refuses a graph whose external data is not inside one of these ranges of one file.
//   location   the file's name as the graph must give it
// Throws ArtifactError: it names another file or other bytes, or is no protobuf.
void CheckReferences(const std::filesystem::path& graph, std::string_view location,
                     const std::vector<ByteRange>& ranges);

}  // namespace patchcore
