// Which files an ONNX graph wants to read, found before ONNX Runtime opens any of them; twin of
// onnx_references.py.
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

// Refuses a graph that wants any file but its own.
// Throws ArtifactError: it has external data, or is no protobuf.
void CheckNoReferences(const std::filesystem::path& graph);

// Refuses a graph whose external data is not inside one of these ranges of one file.
//   location   the file's name as it must stand in the graph
// Throws ArtifactError: it names another file or other bytes, or is no protobuf.
void CheckReferences(const std::filesystem::path& graph, std::string_view location,
                     const std::vector<ByteRange>& ranges);

}  // namespace patchcore
