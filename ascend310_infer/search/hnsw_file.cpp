#include "search/hnsw_file.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "errors.hpp"
#include "files/regular.hpp"

namespace patchcore {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kHeaderBytes = 96;
constexpr std::uint64_t kFewestLinks = 2, kMostLinks = 1024;
constexpr std::uint64_t kMostEffort = 65536;
constexpr std::size_t kBlockBytes = std::size_t{1} << 20;

struct Header {
  std::uint64_t offset_level0, max_elements, element_count, element_bytes, label_offset;
  std::uint64_t data_offset;
  std::int32_t max_level;
  std::uint32_t entry;
  std::uint64_t max_links, max_links0, links;
  double mult;
  std::uint64_t ef_construction;
};
static_assert(sizeof(Header) == kHeaderBytes, "read as it lies in the file");

// The file, its name for messages, and the number of bytes that are left.
class Source {
 public:
  explicit Source(const fs::path& path) try
      : name_(path.string()), file_(path, kAnySize, Links::kOwnFolder), left_(file_.size()) {
  } catch (const FileError& error) {
    throw ArtifactError(path.string() + ": " + error.what() + "; copy the folder again");
  }

  std::uint64_t left() const { return left_; }

  // Reads `size` bytes, which the caller has compared with left().
  void Read(void* target, std::size_t size) {
    if (file_.Read(target, size) != size) Refuse("size", "more bytes", "less");
    left_ -= size;
  }

  [[noreturn]] void Refuse(const std::string& field, const std::string& expected,
                           const std::string& got) const {
    throw ArtifactError(name_ + ": " + field + ": expected " + expected + ", got " + got +
                        "; copy the folder again");
  }

  void Expect(bool holds, const std::string& field, const std::string& expected,
              std::uint64_t got) const {
    if (!holds) Refuse(field, expected, std::to_string(got));
  }

 private:
  std::string name_;
  RegularFile file_;
  std::uint64_t left_ = 0;
};

std::string Range(std::uint64_t lowest, std::uint64_t highest) {
  return std::to_string(lowest) + " to " + std::to_string(highest);
}

// The header, compared with the bank field by field; its links are bounded first, so that no sum
// below can overflow.
Header ReadHeader(Source& source, const MemoryBank& bank) {
  source.Expect(source.left() >= kHeaderBytes, "size", "96 bytes or more", source.left());
  Header header{};
  source.Read(&header, kHeaderBytes);
  const std::uint64_t links = header.links, rows = bank.rows;
  source.Expect(links >= kFewestLinks && links <= kMostLinks, "M", Range(kFewestLinks, kMostLinks),
                links);
  const std::uint64_t vectors = 4 + 8 * links;  // after the number of links and 2 m of them
  const std::uint64_t label = vectors + 4 * bank.Size();
  const std::array<std::pair<const char*, std::array<std::uint64_t, 2>>, 8> expected{{
      {"offsetLevel0", {0, header.offset_level0}},
      {"max_elements", {rows, header.max_elements}},
      {"cur_element_count", {rows, header.element_count}},
      {"size_data_per_element", {label + 8, header.element_bytes}},
      {"label_offset", {label, header.label_offset}},
      {"offsetData", {vectors, header.data_offset}},
      {"maxM", {links, header.max_links}},
      {"maxM0", {2 * links, header.max_links0}},
  }};
  for (const auto& [field, values] : expected) {
    source.Expect(values[0] == values[1], field, std::to_string(values[0]), values[1]);
  }
  if (header.max_level < 0) {
    source.Refuse("maxlevel", "0 or more", std::to_string(header.max_level));
  }
  source.Expect(header.entry < rows, "enterpoint_node", Range(0, rows - 1), header.entry);
  const double logarithm = std::log(static_cast<double>(links));
  if (!(std::abs(header.mult * logarithm - 1) <= 1e-9)) {
    source.Refuse("mult", std::to_string(1 / logarithm), std::to_string(header.mult));
  }
  const std::uint64_t effort = header.ef_construction;
  source.Expect(effort >= 1 && effort <= kMostEffort, "ef_construction", Range(1, kMostEffort),
                effort);
  return header;
}

std::string Element(std::uint64_t number) { return "element " + std::to_string(number); }

template <typename Value>
Value ReadAt(const char* bytes, std::size_t offset) {
  Value value;
  std::memcpy(&value, bytes + offset, sizeof(value));
  return value;
}

bool SameNumbers(const char* stored, const float* numbers, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    if (ReadAt<float>(stored, i * sizeof(float)) != numbers[i]) return false;
  }
  return true;
}

// One element of the lowest level: links, vector and label.
void CheckElement(const Source& source, const char* bytes, const Header& header, std::size_t number,
                  const MemoryBank& bank) {
  const std::uint64_t most = header.max_links0;
  // The upper half of the count holds a mark of deletion; no row may be deleted.
  const auto count = ReadAt<std::uint32_t>(bytes, 0);
  source.Expect(count <= most, Element(number),
                "links of level 0: count up to " + std::to_string(most), count);
  for (std::size_t i = 0; i < most; ++i) {  // including unused ones
    const auto link = ReadAt<std::uint32_t>(bytes, 4 + 4 * i);
    if (link < bank.rows) continue;
    source.Refuse(Element(number), "links of level 0 to 0.." + std::to_string(bank.rows - 1),
                  std::to_string(link));
  }
  const auto label = ReadAt<std::uint64_t>(bytes, header.label_offset);
  source.Expect(label == number, Element(number), "its own number as label", label);
  const char* vector = bytes + header.data_offset;
  for (const MemoryBank::Part& part : bank.layers) {
    if (!SameNumbers(vector, part.Row(number), part.channels)) {
      source.Refuse(Element(number), "the numbers of that row of memory_bank.bin", "others");
    }
    vector += sizeof(float) * part.channels;
  }
}

void CheckElements(Source& source, const Header& header, const MemoryBank& bank) {
  const auto size = static_cast<std::size_t>(header.element_bytes);
  // An element of level 0 still says, in four bytes, that it has no upper links.
  if (bank.rows > source.left() / (size + 4)) {
    source.Refuse("size",
                  std::to_string(bank.rows) + " elements of " + std::to_string(size) + " bytes",
                  std::to_string(source.left()) + " bytes");
  }
  std::vector<char> block(std::max<std::size_t>(1, kBlockBytes / size) * size);
  for (std::size_t first = 0; first < bank.rows; first += block.size() / size) {
    const std::size_t count = std::min(block.size() / size, bank.rows - first);
    source.Read(block.data(), count * size);
    for (std::size_t i = 0; i < count; ++i) {
      CheckElement(source, block.data() + i * size, header, first + i, bank);
    }
  }
}

// The lists above the lowest level of each element, as many as its level.
struct UpperLists {
  std::vector<std::uint32_t> words;  // the part of the file after the elements
  std::vector<std::size_t> starts;   // of each element's lists, (M,)
  std::vector<std::size_t> levels;   // (M,)
};

UpperLists ReadUpperLists(Source& source, std::size_t width, std::size_t rows) {
  source.Expect(source.left() % 4 == 0, "size", "a multiple of 4 bytes", source.left());
  UpperLists lists;
  lists.words.resize(static_cast<std::size_t>(source.left() / 4));
  source.Read(lists.words.data(), lists.words.size() * 4);
  std::size_t place = 0;
  for (std::size_t element = 0; element < rows; ++element) {
    if (place >= lists.words.size()) {
      source.Refuse(Element(element), "its upper links", "the end of the file");
    }
    const std::size_t bytes = lists.words[place];
    const bool fits = bytes % (4 * width) == 0 && bytes / 4 < lists.words.size() - place;
    source.Expect(fits, Element(element),
                  "upper links of " + std::to_string(4 * width) + " bytes a level", bytes);
    lists.levels.push_back(bytes / (4 * width));
    lists.starts.push_back(place + 1);
    place += 1 + bytes / 4;
  }
  source.Expect(place == lists.words.size(), "size", "nothing behind the last element",
                4 * (lists.words.size() - place));
  return lists;
}

// One list above the lowest level: every link in use leads to an element of that level.
void CheckUpperList(const Source& source, const std::uint32_t* list, std::size_t width,
                    const UpperLists& lists, std::size_t level, const std::string& element) {
  const std::string what = "links of level " + std::to_string(level);
  source.Expect(list[0] < width, element, what + ": count up to " + std::to_string(width - 1),
                list[0]);
  for (std::size_t i = 1; i < width; ++i) {
    const std::uint32_t link = list[i];
    source.Expect(link < lists.levels.size(), element,
                  what + " to 0.." + std::to_string(lists.levels.size() - 1), link);
    source.Expect(i > list[0] || lists.levels[link] >= level, element, what + " to its elements",
                  link);
  }
}

void CheckUpperLinks(Source& source, const Header& header, std::size_t rows) {
  const std::size_t width = 1 + static_cast<std::size_t>(header.links);
  const UpperLists lists = ReadUpperLists(source, width, rows);
  const auto top = static_cast<std::size_t>(header.max_level);
  const std::size_t highest = *std::max_element(lists.levels.begin(), lists.levels.end());
  source.Expect(highest == top, "maxlevel",
                std::to_string(highest) + ", the highest of all elements", top);
  source.Expect(lists.levels[header.entry] == top, "enterpoint_node",
                "an element of level " + std::to_string(top), lists.levels[header.entry]);
  for (std::size_t element = 0; element < rows; ++element) {
    for (std::size_t level = 1; level <= lists.levels[element]; ++level) {
      const std::size_t start = lists.starts[element] + (level - 1) * width;
      CheckUpperList(source, lists.words.data() + start, width, lists, level, Element(element));
    }
  }
}

}  // namespace

void CheckHnswFile(const fs::path& path, const MemoryBank& bank) {
  Source source(path);
  const Header header = ReadHeader(source, bank);
  CheckElements(source, header, bank);
  CheckUpperLinks(source, header, bank.rows);
}

}  // namespace patchcore
