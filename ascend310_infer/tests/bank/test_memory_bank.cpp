// Laws of memory_bank.bin: a header that lies is refused unread.
#include "bank/memory_bank.hpp"

#include <cstring>
#include <limits>
#include <vector>

#include "errors.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"
#include "tests/support/scratch.hpp"

namespace {

namespace fs = std::filesystem;
using patchcore::ArtifactError;
using patchcore::MemoryBank;
using patchcore::ReadMemoryBank;

struct Shape {
  std::uint64_t rows = 7;
  std::uint32_t channels2 = 3;
  std::uint32_t channels3 = 5;
  std::uint32_t neighbours = 4;
  std::uint32_t bits = 32;
};

template <typename Value>
void Append(std::string& content, Value value) {
  content.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// A whole number below 2048 in half precision.
std::uint16_t ToHalf(std::uint64_t value) {
  if (value == 0) return 0;
  int exponent = 0;
  while ((value >> (exponent + 1)) != 0) ++exponent;
  return static_cast<std::uint16_t>(((exponent + 15) << 10) | ((value << (10 - exponent)) & 0x3FF));
}

void Pad(std::string& content) { content.append((64 - content.size() % 64) % 64, '\0'); }

std::string Header(const Shape& shape, std::uint32_t version = 2, std::uint32_t start = 64) {
  std::string content = "PCMEMBNK";
  Append(content, version);
  Append(content, start);
  Append(content, shape.rows);
  Append(content, shape.channels2);
  Append(content, shape.channels3);
  Append(content, shape.neighbours);
  Append(content, shape.bits);
  Pad(content);
  return content;
}

// A bank whose values count up from 0 in each section; neighbours are rows.
std::string Content(const Shape& shape) {
  std::string content = Header(shape);
  for (const std::uint64_t width :
       {std::uint64_t{shape.channels2}, std::uint64_t{shape.channels3}, std::uint64_t{1}}) {
    for (std::uint64_t i = 0; i < shape.rows * width; ++i) {
      if (shape.bits == 16 && width > 1) {
        Append(content, ToHalf(i));
      } else {
        Append(content, static_cast<float>(i));
      }
    }
    Pad(content);
  }
  for (std::uint64_t i = 0; i < shape.rows * 3; ++i) Append(content, static_cast<std::int32_t>(i));
  Pad(content);
  for (std::uint64_t i = 0; i < shape.rows * shape.neighbours; ++i) {
    Append(content, static_cast<std::int32_t>(i % shape.rows));
  }
  Pad(content);
  return content;
}

std::string Refusal(const std::string& content) {
  const Scratch folder;
  WriteFile(folder.path() / "memory_bank.bin", content);
  try {
    ReadMemoryBank(folder.path() / "memory_bank.bin");
  } catch (const ArtifactError& error) {
    return error.what();
  }
  return "";
}

TEST_CASE("A bank gives the values of its sections, aligned to 64 bytes") {
  for (const Shape& shape :
       {Shape{1, 1, 1, 1}, Shape{}, Shape{16, 16, 32, 16}, Shape{33, 2, 1, 9}}) {
    const Scratch folder;
    WriteFile(folder.path() / "bank", Content(shape));
    const MemoryBank bank = ReadMemoryBank(folder.path() / "bank");
    REQUIRE(bank.rows == shape.rows);
    CHECK(bank.channels2 == shape.channels2);
    CHECK(bank.channels3 == shape.channels3);
    CHECK(bank.neighbour_count == shape.neighbours);
    for (std::size_t i = 0; i < bank.rows; ++i) CHECK(bank.norms[i] == static_cast<float>(i));
    const std::size_t last3 = bank.rows * bank.channels3 - 1;
    CHECK(bank.layer2[bank.rows * bank.channels2 - 1] ==
          static_cast<float>(bank.rows * bank.channels2 - 1));
    CHECK(bank.layer3[last3] == static_cast<float>(last3));
    CHECK(bank.origins[bank.rows * 3 - 1] == static_cast<std::int32_t>(bank.rows * 3 - 1));
    CHECK(bank.neighbours[0] == 0);
    for (const void* section :
         {static_cast<const void*>(bank.layer2), static_cast<const void*>(bank.layer3),
          static_cast<const void*>(bank.norms), static_cast<const void*>(bank.origins),
          static_cast<const void*>(bank.neighbours)}) {
      CHECK(reinterpret_cast<std::uintptr_t>(section) % 64 == 0);
    }
  }
}

TEST_CASE("Rows stored in half precision come as floats, exactly") {
  const Shape shape{7, 3, 5, 4, 16};
  const Scratch folder;
  WriteFile(folder.path() / "bank", Content(shape));
  const MemoryBank bank = ReadMemoryBank(folder.path() / "bank");
  CHECK(bank.precision == patchcore::BankPrecision::kFloat16);
  for (std::size_t i = 0; i < 7 * 3; ++i) CHECK(bank.layer2[i] == static_cast<float>(i));
  for (std::size_t i = 0; i < 7 * 5; ++i) CHECK(bank.layer3[i] == static_cast<float>(i));
  CHECK(bank.norms[6] == 6.0F);
  CHECK(bank.neighbours[1] == 1);
}

TEST_CASE("A file cut off anywhere, or longer than it says, is refused") {
  const std::string content = Content({});
  for (std::size_t length = 0; length < content.size(); ++length) {
    CHECK(Mentions(Refusal(content.substr(0, length)), "memory_bank.bin: "));
  }
  CHECK(Mentions(Refusal(content + std::string(64, '\0')),
                 "header says 7 rows of 3 + 5 floats of 32 bits"));
  CHECK(Mentions(Refusal(content + "x"), "header says 7 rows of 3 + 5 floats of 32 bits"));
}

TEST_CASE("A header that lies about a size is refused before anything is mapped") {
  const std::string body = Content({}).substr(64);
  for (const std::uint32_t value : {0U, 60U, 65536U, 1U << 31, 0xFFFFFFFFU}) {
    CAPTURE(value);
    CHECK(Mentions(Refusal(Header({value, 3, 5, 4}) + body), "copy the folder again"));
    CHECK(Mentions(Refusal(Header({7, value, 5, 4}) + body), "copy the folder again"));
    CHECK(Mentions(Refusal(Header({7, 3, value, 4}) + body), "copy the folder again"));
    CHECK(Mentions(Refusal(Header({7, 3, 5, value}) + body), "copy the folder again"));
  }
}

TEST_CASE("Row counts whose bytes overflow 64 bits are refused") {
  const std::string body = Content({}).substr(64);
  for (const int shift : {32, 58, 59, 60, 61, 62, 63}) {
    for (const std::uint64_t more : {0, 1, 7}) {
      const std::uint64_t rows = (std::uint64_t{1} << shift) + more;
      CHECK(Mentions(Refusal(Header({rows, 3, 5, 4}) + body),
                     "header says " + std::to_string(rows) + " rows"));
    }
  }
  const auto most = std::numeric_limits<std::uint64_t>::max();
  CHECK(Mentions(Refusal(Header({most, 0xFFFFFFFFU, 0xFFFFFFFFU, 0xFFFFFFFFU}) + body), "rows of"));
}

TEST_CASE("Another kind of file or version is refused") {
  std::string other = Content({});
  other[7] = 'L';
  CHECK(Mentions(Refusal(other), "expected a memory bank"));
  CHECK(Mentions(Refusal(Header({}, 1)), "version: expected 2, got 1"));
  CHECK(Mentions(Refusal(Header({}, 2, 128)), "header size: expected 64, got 128"));
  CHECK(Mentions(Refusal(Header({7, 3, 5, 4, 8})), "bits of a number: expected 32 or 16, got 8"));
}

TEST_CASE("A neighbour outside the bank is refused") {
  for (const std::int32_t row : {-1, 7, std::numeric_limits<std::int32_t>::max(),
                                 std::numeric_limits<std::int32_t>::min()}) {
    std::string content = Content({});
    const std::size_t neighbours = content.size() - 128;  // 28 entries of 4 bytes, padded
    std::memcpy(content.data() + neighbours + 4 * 18, &row, sizeof(row));
    CHECK(Mentions(Refusal(content), "neighbours: expected rows 0 to 6"));
  }
}

TEST_CASE("More neighbours than rows are refused") {
  CHECK(Mentions(Refusal(Content({2, 3, 5, 3})), "header says 2 rows"));
}

TEST_CASE("A missing bank and a folder of its name are refused") {
  const Scratch folder;
  CHECK_THROWS_WITH(ReadMemoryBank(folder.path() / "absent"), Catch::Contains("No such file"));
  CHECK_THROWS_WITH(ReadMemoryBank(folder.path()), Catch::Contains("Is a directory"));
}

}  // namespace
