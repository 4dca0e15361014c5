// memory_bank.bin, mapped into memory; the twin of patchcore_runtime/bank/memory_bank.py.
// artifacts/FORMAT.md defines the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "manifest/manifest.hpp"

namespace patchcore {

// The normal patches: M rows, each of the layers of one patch.
// The pointers are read-only and aligned for their type. They live as long as any copy of this
// struct.
struct MemoryBank {
  // The place of one array in the file, in bytes, without padding.
  struct Section {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
  };

  // One layer of all rows, at the patch grid.
  struct Part {
    const float* rows = nullptr;  // row-major (rows, channels)
    std::size_t channels = 0;     // C_i

    const float* Row(std::size_t row) const { return rows + row * channels; }
  };

  std::vector<Part> layers;                  // 1 to 4
  const float* norms = nullptr;              // (rows,) squared length of each whole row
  const std::int32_t* origins = nullptr;     // (rows, 3): training image, y, x on the patch grid
  const std::int32_t* neighbours = nullptr;  // (rows, neighbour_count), each in 0 to rows - 1
  std::size_t rows = 0;                      // M
  std::size_t neighbour_count = 0;           // K
  std::vector<Section> sections;             // in the order above, one for each layer
  BankPrecision precision = BankPrecision::kFloat32;  // of the layers in the file
  std::shared_ptr<const void> mapping;                // owns the pages
  std::shared_ptr<const void> widened;                // owns layers that were float16 in the file

  // D, the length of a whole row.
  std::size_t Size() const;
};

// From one patch vector (D,) to one row: sum of squared differences in float64, layer by layer.
double SquaredDistance(const MemoryBank& bank, const float* patch, std::size_t row);

// Maps the file and validates every number. Only layers stored as float16 are copied, because they
// are widened.
// Throws ArtifactError: no such file, another version, a header that does not fit the file's size,
// numbers that are not finite, or neighbours that are no rows.
MemoryBank ReadMemoryBank(const std::filesystem::path& path);

}  // namespace patchcore
