// memory_bank.bin, mapped into memory; the twin of memory_bank.py, bytes as in FORMAT.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>

#include "manifest/manifest.hpp"

namespace patchcore {

// The normal patches: M rows, each of layer2 (C2) and layer3 (C3) of one patch.
// The pointers are read-only, aligned as their numbers are, and live as long as any copy of this struct.
struct MemoryBank {
  // Where one array stands in the file, in bytes, without padding.
  struct Section {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
  };

  const float* layer2 = nullptr;             // row-major (rows, channels2)
  const float* layer3 = nullptr;             // row-major (rows, channels3)
  const float* norms = nullptr;              // (rows,) squared length of each whole row
  const std::int32_t* origins = nullptr;     // (rows, 3): training image, y, x on the patch grid
  const std::int32_t* neighbours = nullptr;  // (rows, neighbour_count), each in 0 to rows - 1
  std::size_t rows = 0;                      // M
  std::size_t channels2 = 0;                 // C2
  std::size_t channels3 = 0;                 // C3
  std::size_t neighbour_count = 0;           // K
  std::array<Section, 5> sections{};         // in the order above
  BankPrecision precision = BankPrecision::kFloat32;  // of the layers in the file
  std::shared_ptr<const void> mapping;       // owns the pages
  std::shared_ptr<const void> widened;       // owns layers that were float16 in the file
};

// Maps the file and looks at every number; nothing is copied but layers stored as float16, which
// are widened.
// Throws ArtifactError: no such file, another version, a header that does not fit the file's size,
// numbers that are not finite, or neighbours that are no rows.
MemoryBank ReadMemoryBank(const std::filesystem::path& path);

}  // namespace patchcore
