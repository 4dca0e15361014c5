#include "bank/memory_bank.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "errors.hpp"
#include "files/regular.hpp"
#include "half.hpp"
#include "messages.hpp"

namespace patchcore {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "sections are used as they are mapped");

constexpr std::uint32_t kVersion = 2;
constexpr std::uint64_t kAlignment = 64;
constexpr std::size_t kHeaderBytes = 40;
constexpr std::size_t kMagicBytes = 8;
constexpr char kMagic[] = "PCMEMBNK";

struct Header {
  std::uint32_t version;
  std::uint32_t start;
  std::uint64_t rows;
  std::uint32_t channels2;
  std::uint32_t channels3;
  std::uint32_t neighbours;
  std::uint32_t bits;  // of a number of the layers
};

// The five sections, each at a multiple of 64.
using Sections = std::array<MemoryBank::Section, 5>;

template <typename Value>
Value ReadAt(const unsigned char* bytes, std::size_t offset) {
  Value value;
  std::memcpy(&value, bytes + offset, sizeof(value));
  return value;
}

// The places of the sections, or nothing if they do not fill `size` bytes exactly. It only divides
// by the header's numbers, so that no header can cause an overflow.
std::optional<Sections> Place(const Header& header, std::uint64_t size) {
  const std::array<std::uint64_t, 5> widths = {header.channels2, header.channels3, 1, 3,
                                               header.neighbours};
  const std::uint64_t layer_bytes = header.bits / 8;
  const std::array<std::uint64_t, 5> bytes = {layer_bytes, layer_bytes, 4, 4, 4};
  Sections sections{};
  std::uint64_t end = kAlignment;
  for (std::size_t section = 0; section < widths.size(); ++section) {
    const std::uint64_t left = end > size ? 0 : size - end;
    if (header.rows > left / bytes[section] / widths[section]) return std::nullopt;
    sections[section] = {end, header.rows * widths[section] * bytes[section]};
    end += sections[section].size;
    end += (kAlignment - end % kAlignment) % kAlignment;
  }
  if (end != size) return std::nullopt;
  return sections;
}

Header ParseHeader(const unsigned char* bytes, std::size_t length, const std::string& where) {
  if (length < kHeaderBytes || std::memcmp(bytes, kMagic, kMagicBytes) != 0) {
    const std::string_view got(reinterpret_cast<const char*>(bytes), std::min(length, kMagicBytes));
    throw ArtifactError(where + ": expected a memory bank (" + kMagic + "), got '" +
                        Printable(got, kMagicBytes) + "'");
  }
  const Header header{ReadAt<std::uint32_t>(bytes, 8),  ReadAt<std::uint32_t>(bytes, 12),
                      ReadAt<std::uint64_t>(bytes, 16), ReadAt<std::uint32_t>(bytes, 24),
                      ReadAt<std::uint32_t>(bytes, 28), ReadAt<std::uint32_t>(bytes, 32),
                      ReadAt<std::uint32_t>(bytes, 36)};
  if (header.version != kVersion) {
    throw ArtifactError(where + ": version: expected 2, got " + std::to_string(header.version));
  }
  if (header.start != kAlignment) {
    throw ArtifactError(where + ": header size: expected 64, got " + std::to_string(header.start));
  }
  if (header.bits != 32 && header.bits != 16) {
    throw ArtifactError(where + ": bits of a number: expected 32 or 16, got " +
                        std::to_string(header.bits));
  }
  return header;
}

MappedFile Map(const std::filesystem::path& path) {
  try {
    return MappedFile(RegularFile(path, kAnySize, Links::kOwnFolder));
  } catch (const FileError& error) {
    throw ArtifactError(path.string() + ": " + error.what() + "; copy the folder again");
  }
}

// Layers stored as float16, as float; one buffer for both.
void Widen(const void* layer2, const void* layer3, MemoryBank& bank) {
  const std::size_t count2 = bank.rows * bank.channels2, count3 = bank.rows * bank.channels3;
  auto floats = std::make_shared<std::vector<float>>(count2 + count3);
  const auto* halves2 = static_cast<const std::uint16_t*>(layer2);
  const auto* halves3 = static_cast<const std::uint16_t*>(layer3);
  std::transform(halves2, halves2 + count2, floats->begin(), FromHalf);
  std::transform(halves3, halves3 + count3, floats->data() + count2, FromHalf);
  bank.layer2 = floats->data();
  bank.layer3 = floats->data() + count2;
  bank.widened = std::move(floats);
}

// A non-finite row never wins a search, so the patches that it represents would count as defects.
void RefuseNotFinite(const float* values, std::size_t rows, std::size_t columns,
                     const std::string& where) {
  for (std::size_t i = 0; i < rows * columns; ++i) {
    if (std::isfinite(values[i])) continue;
    const char* got = std::isnan(values[i]) ? "nan" : values[i] < 0 ? "-inf" : "inf";
    throw ArtifactError(where + ": row " + std::to_string(i / columns) +
                        ": expected finite numbers, got " + got + "; copy the folder again");
  }
}

}  // namespace

MemoryBank ReadMemoryBank(const std::filesystem::path& path) {
  const std::string where = path.string();
  const MappedFile file = Map(path);
  const auto* start = reinterpret_cast<const unsigned char*>(file.bytes().data());
  const std::uint64_t size = file.bytes().size();
  const Header header = ParseHeader(start, std::min(file.bytes().size(), kHeaderBytes), where);
  const bool filled = header.rows > 0 && header.channels2 > 0 && header.channels3 > 0 &&
                      header.neighbours > 0 && header.neighbours <= header.rows;
  const std::optional<Sections> sections = filled ? Place(header, size) : std::nullopt;
  if (!sections) {
    throw ArtifactError(where + ": header says " + std::to_string(header.rows) + " rows of " +
                        std::to_string(header.channels2) + " + " +
                        std::to_string(header.channels3) + " floats of " +
                        std::to_string(header.bits) + " bits and " +
                        std::to_string(header.neighbours) + " neighbours, but the file has " +
                        std::to_string(size) + " bytes; copy the folder again");
  }
  MemoryBank bank;
  bank.mapping = file.pages();
  const auto at = [&](std::size_t section) -> const void* {
    return start + (*sections)[section].offset;
  };
  bank.layer2 = static_cast<const float*>(at(0));
  bank.layer3 = static_cast<const float*>(at(1));
  bank.norms = static_cast<const float*>(at(2));
  bank.origins = static_cast<const std::int32_t*>(at(3));
  bank.neighbours = static_cast<const std::int32_t*>(at(4));
  bank.sections = *sections;
  bank.rows = static_cast<std::size_t>(header.rows);
  bank.channels2 = header.channels2;
  bank.channels3 = header.channels3;
  if (header.bits == 16) {
    bank.precision = BankPrecision::kFloat16;
    Widen(at(0), at(1), bank);
  }
  bank.neighbour_count = header.neighbours;
  RefuseNotFinite(bank.layer2, bank.rows, bank.channels2, where + ": layer2");
  RefuseNotFinite(bank.layer3, bank.rows, bank.channels3, where + ": layer3");
  RefuseNotFinite(bank.norms, bank.rows, 1, where + ": norms");
  const std::size_t listed = bank.rows * bank.neighbour_count;
  const auto [lowest, highest] = std::minmax_element(bank.neighbours, bank.neighbours + listed);
  if (*lowest < 0 || static_cast<std::uint64_t>(*highest) >= header.rows) {
    throw ArtifactError(where + ": neighbours: expected rows 0 to " +
                        std::to_string(header.rows - 1) + "; copy it again");
  }
  return bank;
}

}  // namespace patchcore
