// Laws of index.hnsw: what would lead hnswlib out of the file is refused before it sees it.
#include "search/hnsw_file.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "errors.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"
#include "tests/support/scratch.hpp"
#include "tests/support/small_bank.hpp"

namespace {

using patchcore::ArtifactError;
using patchcore::CheckHnswFile;

constexpr std::size_t kLinks = 2;
constexpr std::size_t kElement = 4 + 8 * kLinks + 4 * (kChannels2 + kChannels3) + 8;
constexpr std::size_t kBody = 96 + kRows * kElement;  // where the upper lists begin
constexpr std::size_t kTop = 4;                       // the entry, on levels 1 and 2

template <typename Value>
void Append(std::string& content, Value value) {
  content.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename Value>
std::string With(std::string content, std::size_t offset, Value value) {
  const std::string bytes(reinterpret_cast<const char*>(&value), sizeof(value));
  return content.replace(offset, bytes.size(), bytes);
}

struct Case : SmallBank {
  // A ring on the lowest level; element 4 is on levels 1 and 2, element 5 on level 1.
  std::string Content() const {
    std::string content;
    const std::size_t vectors = 4 + 8 * kLinks;
    for (const std::size_t value :
         {std::size_t{0}, kRows, kRows, kElement, kElement - 8, vectors}) {
      Append(content, static_cast<std::uint64_t>(value));
    }
    Append(content, std::int32_t{2});
    Append(content, std::uint32_t{kTop});
    for (const std::uint64_t value : {kLinks, 2 * kLinks, kLinks}) Append(content, value);
    Append(content, 1 / std::log(static_cast<double>(kLinks)));
    Append(content, std::uint64_t{50});
    for (std::uint32_t row = 0; row < kRows; ++row) {
      Append(content, std::uint32_t{1});
      Append(content, (row + 1) % static_cast<std::uint32_t>(kRows));
      for (std::size_t unused = 1; unused < 2 * kLinks; ++unused) Append(content, std::uint32_t{0});
      for (std::size_t c = 0; c < kChannels2; ++c) Append(content, layer2[row * kChannels2 + c]);
      for (std::size_t c = 0; c < kChannels3; ++c) Append(content, layer3[row * kChannels3 + c]);
      Append(content, std::uint64_t{row});
    }
    for (std::uint32_t row = 0; row < kRows; ++row) {
      const std::uint32_t levels = row == kTop ? 2 : row == 5 ? 1 : 0;
      Append(content, static_cast<std::uint32_t>(levels * (4 + 4 * kLinks)));
      for (std::uint32_t level = 1; level <= levels; ++level) {
        Append(content, std::uint32_t{level == 1 ? 1U : 0U});
        Append(content, row == kTop ? 5U : 4U);
        Append(content, std::uint32_t{0});
      }
    }
    return content;
  }

  std::string Refused(const std::string& content) const {
    const Scratch folder;
    const auto path = folder.path() / "index.hnsw";
    WriteFile(path, content);
    return Refusal<ArtifactError>([&] { CheckHnswFile(path, bank); });
  }
};

TEST_CASE("A graph over the bank is accepted") { CHECK(Case().Refused(Case().Content()).empty()); }

TEST_CASE("A graph cut off anywhere, or with anything behind it, is refused") {
  const Case drawn;
  const std::string content = drawn.Content();
  for (std::size_t length = 0; length < content.size(); ++length) {
    CAPTURE(length);
    CHECK(Mentions(drawn.Refused(content.substr(0, length)), "index.hnsw: "));
  }
  CHECK(Mentions(drawn.Refused(content + "x"), "size: expected"));
  CHECK(Mentions(drawn.Refused(content + std::string(4, '\0')),
                 "size: expected nothing behind the last element, got 4"));
}

TEST_CASE("A number of the header that does not fit the bank is refused by its name") {
  const Case drawn;
  const std::string content = drawn.Content();
  const char* const fields[] = {"offsetLevel0",          "max_elements", "cur_element_count",
                                "size_data_per_element", "label_offset", "offsetData"};
  for (const std::uint64_t value :
       {std::uint64_t{1}, std::uint64_t{kRows + 1}, std::uint64_t{1} << 32, std::uint64_t{1} << 61,
        std::numeric_limits<std::uint64_t>::max()}) {
    for (std::size_t field = 0; field < 6; ++field) {
      CHECK(Mentions(drawn.Refused(With(content, 8 * field, value)),
                     std::string(fields[field]) + ": expected"));
    }
    CHECK(Mentions(drawn.Refused(With(content, 56, value)), "maxM: expected 2"));
    CHECK(Mentions(drawn.Refused(With(content, 64, value)), "maxM0: expected 4"));
  }
  for (const std::uint64_t links :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1025}, std::uint64_t{1} << 62}) {
    CHECK(Mentions(drawn.Refused(With(content, 72, links)), "M: expected 2 to 1024"));
  }
  CHECK(Mentions(drawn.Refused(With(content, 48, std::int32_t{-1})), "maxlevel: expected 0"));
  CHECK(Mentions(drawn.Refused(With(content, 48, std::int32_t{3})), "maxlevel: expected 2"));
  CHECK(
      Mentions(drawn.Refused(With(content, 52, std::uint32_t{7})), "enterpoint_node: expected 0"));
  CHECK(Mentions(drawn.Refused(With(content, 52, std::uint32_t{5})),
                 "enterpoint_node: expected an element of level 2, got 1"));
  CHECK(Mentions(drawn.Refused(With(content, 80, std::nan(""))), "mult: expected"));
  CHECK(Mentions(drawn.Refused(With(content, 88, std::uint64_t{0})), "ef_construction: expected"));
}

TEST_CASE("A link to no element, a mark of deletion, and another label or vector are refused") {
  const Case drawn;
  const std::string content = drawn.Content();
  const std::size_t third = 96 + 3 * kElement;
  for (const std::uint32_t count : {5U, 0x10001U, 0xFFFFFFFFU}) {
    CHECK(Mentions(drawn.Refused(With(content, third, count)),
                   "element 3: expected links of level 0: count up to 4"));
  }
  for (const std::uint32_t link : {7U, 0x80000000U, 0xFFFFFFFFU}) {
    for (std::size_t slot = 0; slot < 2 * kLinks; ++slot) {
      CHECK(Mentions(drawn.Refused(With(content, third + 4 + 4 * slot, link)),
                     "element 3: expected links of level 0 to 0..6, got " + std::to_string(link)));
    }
  }
  CHECK(Mentions(drawn.Refused(With(content, third + kElement - 8, std::uint64_t{4})),
                 "element 3: expected its own number as label, got 4"));
  CHECK(Mentions(drawn.Refused(With(content, third + 20, 0.5F)),
                 "element 3: expected the numbers of that row of memory_bank.bin"));
  CHECK(Mentions(drawn.Refused(With(content, third + 36, 0.5F)),
                 "element 3: expected the numbers of that row of memory_bank.bin"));
}

TEST_CASE("Upper lists that do not fit the file, or lead to elements below, are refused") {
  const Case drawn;
  const std::string content = drawn.Content();
  for (const std::uint32_t bytes : {4U, 12U * 400, 0xFFFFFFFCU}) {
    CHECK(Mentions(drawn.Refused(With(content, kBody, bytes)),
                   "element 0: expected upper links of 12 bytes a level, got"));
  }
  const std::size_t first = kBody + 4 * kTop + 4;  // of element 4, on level 1
  CHECK(Mentions(drawn.Refused(With(content, first, 3U)),
                 "element 4: expected links of level 1: count up to 2, got 3"));
  CHECK(Mentions(drawn.Refused(With(content, first + 4, 7U)),
                 "element 4: expected links of level 1 to 0..6, got 7"));
  CHECK(Mentions(drawn.Refused(With(content, first + 4, 3U)),
                 "element 4: expected links of level 1 to its elements, got 3"));
  const std::string up = With(With(content, first + 12, 1U), first + 16, 5U);
  CHECK(Mentions(drawn.Refused(up), "element 4: expected links of level 2 to its elements, got 5"));
}

TEST_CASE("A missing graph and a folder of its name are refused") {
  const Case drawn;
  const Scratch folder;
  const auto missing = [&](const std::filesystem::path& path) {
    return Refusal<ArtifactError>([&] { CheckHnswFile(path, drawn.bank); });
  };
  CHECK(Mentions(missing(folder.path() / "absent"), "No such file"));
  CHECK(Mentions(missing(folder.path()), "copy the folder again"));
}

}  // namespace
