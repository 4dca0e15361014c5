// index.onnx: exact nearest-neighbour search as an ONNX graph over memory_bank.bin; the twin of
// patchcore_runtime/search/exact_graph.py, to the byte.
//
// The reader writes the graph itself, from the manifest and the shape of the bank, and compares it
// with the artifact's file. So no file decides what a search computes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "manifest/manifest.hpp"

namespace patchcore {

// Bytes [offset, offset + size) of a file.
struct ByteRange {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

// The bank's shape, and where its rows lie in memory_bank.bin.
struct BankPlaces {
  std::int64_t rows = 0;  // M
  BankPrecision precision = BankPrecision::kFloat32;
  std::vector<ByteRange> layers;
  ByteRange norms;
};

// The content of index.onnx.
std::string ExactGraph(const Layout& layout, const BankPlaces& bank);

// Refuses an index.onnx of another content.
// Throws ArtifactError.
void ExpectContent(const std::filesystem::path& path, const std::string& content);

}  // namespace patchcore
