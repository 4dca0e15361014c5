#include "bank/memory_bank.hpp"

#include <algorithm>
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

constexpr std::uint32_t kVersion = 3;
constexpr std::uint64_t kAlignment = 64;
constexpr std::size_t kHeaderBytes = 52;
constexpr std::size_t kMagicBytes = 8;
constexpr char kMagic[] = "PCMEMBNK";

struct Header {
  std::uint32_t version;
  std::uint32_t start;
  std::uint64_t rows;
  std::uint32_t neighbours;
  std::uint32_t bits;                   // of a number of the layers
  std::vector<std::uint32_t> channels;  // of each layer
};

// One for each layer, then norms, origins and neighbours, each at a multiple of 64.
using Sections = std::vector<MemoryBank::Section>;

template <typename Value>
Value ReadAt(const unsigned char* bytes, std::size_t offset) {
  Value value;
  std::memcpy(&value, bytes + offset, sizeof(value));
  return value;
}

// The places of the sections, or nothing if they do not fill `size` bytes exactly. It only divides
// by the header's numbers, so that no header can cause an overflow.
std::optional<Sections> Place(const Header& header, std::uint64_t size) {
  std::vector<std::uint64_t> widths(header.channels.begin(), header.channels.end());
  for (const std::uint32_t width : {1U, 3U, header.neighbours}) widths.push_back(width);
  Sections sections;
  std::uint64_t end = kAlignment;
  for (const std::uint64_t width : widths) {
    const bool is_layer = sections.size() < header.channels.size();
    const std::uint64_t bytes = is_layer ? header.bits / 8 : 4;
    const std::uint64_t left = end > size ? 0 : size - end;
    if (header.rows > left / bytes / width) return std::nullopt;
    sections.push_back({end, header.rows * width * bytes});
    end += sections.back().size;
    end += (kAlignment - end % kAlignment) % kAlignment;
  }
  if (end != size) return std::nullopt;
  return sections;
}

std::string Joined(const std::vector<std::uint32_t>& channels, const char* mark) {
  std::string text;
  for (const std::uint32_t count : channels) {
    text += (text.empty() ? "" : mark) + std::to_string(count);
  }
  return text;
}

Header ParseHeader(const unsigned char* bytes, std::size_t length, const std::string& where) {
  if (length < kHeaderBytes || std::memcmp(bytes, kMagic, kMagicBytes) != 0) {
    const std::string_view got(reinterpret_cast<const char*>(bytes), std::min(length, kMagicBytes));
    throw ArtifactError(where + ": expected a memory bank (" + kMagic + "), got '" +
                        Printable(got, kMagicBytes) + "'");
  }
  Header header{ReadAt<std::uint32_t>(bytes, 8),  ReadAt<std::uint32_t>(bytes, 12),
                ReadAt<std::uint64_t>(bytes, 16), ReadAt<std::uint32_t>(bytes, 24),
                ReadAt<std::uint32_t>(bytes, 28), {}};
  if (header.version != kVersion) {
    throw ArtifactError(where + ": version: expected 3, got " + std::to_string(header.version));
  }
  if (header.start != kAlignment) {
    throw ArtifactError(where + ": header size: expected 64, got " + std::to_string(header.start));
  }
  if (header.bits != 32 && header.bits != 16) {
    throw ArtifactError(where + ": bits of a number: expected 32 or 16, got " +
                        std::to_string(header.bits));
  }
  const auto layers = ReadAt<std::uint32_t>(bytes, 32);
  for (std::size_t layer = 0; layer < kMostLayers; ++layer) {
    header.channels.push_back(ReadAt<std::uint32_t>(bytes, 36 + 4 * layer));
  }
  const bool counted = layers >= 1 && layers <= kMostLayers;
  const auto end = header.channels.begin() + (counted ? layers : 0);
  if (!counted || std::any_of(end, header.channels.end(), [](auto more) { return more != 0; })) {
    throw ArtifactError(where + ": layers: expected 1 to 4 and no channels beyond them, got " +
                        std::to_string(layers) + " and [" + Joined(header.channels, ", ") +
                        "]; copy the folder again");
  }
  header.channels.erase(end, header.channels.end());
  return header;
}

MappedFile Map(const std::filesystem::path& path) {
  try {
    return MappedFile(RegularFile(path, kAnySize, Links::kOwnFolder));
  } catch (const FileError& error) {
    throw ArtifactError(path.string() + ": " + error.what() + "; copy the folder again");
  }
}

// Layers stored as float16, as float; one buffer for all.
void Widen(MemoryBank& bank) {
  auto floats = std::make_shared<std::vector<float>>(bank.rows * bank.Size());
  float* place = floats->data();
  for (MemoryBank::Part& layer : bank.layers) {
    const auto* halves = reinterpret_cast<const std::uint16_t*>(layer.rows);
    const std::size_t count = bank.rows * layer.channels;
    std::transform(halves, halves + count, place, FromHalf);
    layer.rows = place;
    place += count;
  }
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

std::size_t MemoryBank::Size() const {
  std::size_t size = 0;
  for (const Part& layer : layers) size += layer.channels;
  return size;
}

double SquaredDistance(const MemoryBank& bank, const float* patch, std::size_t row) {
  double sum = 0;
  for (const MemoryBank::Part& layer : bank.layers) {
    const float* stored = layer.Row(row);
    for (std::size_t channel = 0; channel < layer.channels; ++channel) {
      const double difference = patch[channel] - stored[channel];
      sum += difference * difference;
    }
    patch += layer.channels;
  }
  return sum;
}

MemoryBank ReadMemoryBank(const std::filesystem::path& path) {
  const std::string where = path.string();
  const MappedFile file = Map(path);
  const auto* start = reinterpret_cast<const unsigned char*>(file.bytes().data());
  const std::uint64_t size = file.bytes().size();
  const Header header = ParseHeader(start, std::min(file.bytes().size(), kHeaderBytes), where);
  const auto& channels = header.channels;
  const bool filled = std::count(channels.begin(), channels.end(), 0U) == 0 && header.rows > 0 &&
                      header.neighbours > 0 && header.neighbours <= header.rows;
  const std::optional<Sections> sections = filled ? Place(header, size) : std::nullopt;
  if (!sections) {
    throw ArtifactError(where + ": header says " + std::to_string(header.rows) + " rows of " +
                        Joined(channels, " + ") + " numbers of float" +
                        std::to_string(header.bits) + " and " + std::to_string(header.neighbours) +
                        " neighbours, but the file has " + std::to_string(size) +
                        " bytes; copy the folder again");
  }
  MemoryBank bank;
  bank.mapping = file.pages();
  const auto at = [&](std::size_t section) -> const void* {
    return start + (*sections)[section].offset;
  };
  for (std::size_t layer = 0; layer < channels.size(); ++layer) {
    bank.layers.push_back({static_cast<const float*>(at(layer)), channels[layer]});
  }
  bank.norms = static_cast<const float*>(at(channels.size()));
  bank.origins = static_cast<const std::int32_t*>(at(channels.size() + 1));
  bank.neighbours = static_cast<const std::int32_t*>(at(channels.size() + 2));
  bank.sections = *sections;
  bank.rows = static_cast<std::size_t>(header.rows);
  if (header.bits == 16) {
    bank.precision = BankPrecision::kFloat16;
    Widen(bank);
  }
  bank.neighbour_count = header.neighbours;
  for (std::size_t layer = 0; layer < channels.size(); ++layer) {
    RefuseNotFinite(bank.layers[layer].rows, bank.rows, channels[layer],
                    where + ": layer " + std::to_string(layer));
  }
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
