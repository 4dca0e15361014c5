// The parameters of an index.mindir, read without MindSpore: those that ship are those tested.
//
// A MindIR file is a protobuf message: model.graph (7) .parameter (3), a tensor with dims (1) and
// raw_data (9). Each parameter is a block of bank rows, float16 (D + 4, rows). For trusted files.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "half.hpp"
#include "tests/support/files.hpp"

namespace mindspore_double {

inline std::uint64_t TakeNumber(std::string_view& rest) {
  std::uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(rest.at(0));
    rest.remove_prefix(1);
    value |= std::uint64_t{byte & 0x7FU} << shift;
    if (byte < 0x80) return value;
  }
}

// Every field of this number: its bytes, or "" for numbers, which go to `numbers`.
inline std::vector<std::string_view> Fields(std::string_view rest, std::uint64_t wanted,
                                            std::vector<std::uint64_t>* numbers = nullptr) {
  std::vector<std::string_view> found;
  while (!rest.empty()) {
    const std::uint64_t tag = TakeNumber(rest);
    std::uint64_t length = tag % 8 == 1 ? 8 : 4;  // fixed sizes
    if (tag % 8 == 0) {
      const std::uint64_t value = TakeNumber(rest);
      if (tag / 8 == wanted && numbers != nullptr) numbers->push_back(value);
      continue;
    }
    if (tag % 8 == 2) length = TakeNumber(rest);
    if (tag / 8 == wanted) found.push_back(rest.substr(0, length));
    rest.remove_prefix(length);
  }
  return found;
}

// rows (M, columns), columns D + 4.
inline void ReadRows(const std::filesystem::path& path, std::vector<float>& rows,
                     std::int64_t& columns) {
  const std::string content = ReadFile(path);
  for (const std::string_view block : Fields(Fields(content, 7).at(0), 3)) {
    std::vector<std::uint64_t> sides;
    Fields(block, 1, &sides);
    const std::string_view raw = Fields(block, 9).at(0);
    columns = static_cast<std::int64_t>(sides.at(0));
    for (std::uint64_t row = 0; row < sides.at(1); ++row) {
      for (std::uint64_t column = 0; column < sides[0]; ++column) {
        std::uint16_t half = 0;
        std::memcpy(&half, raw.data() + 2 * (column * sides[1] + row), sizeof(half));
        rows.push_back(patchcore::FromHalf(half));
      }
    }
  }
}

}  // namespace mindspore_double
