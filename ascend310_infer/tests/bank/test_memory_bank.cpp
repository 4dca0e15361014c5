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
  std::vector<std::uint32_t> channels = {3, 5};
  std::uint32_t neighbours = 4;
  std::uint32_t bits = 32;
  std::uint32_t layers = 2;  // as the header says
};

Shape Of(std::uint64_t rows, const std::vector<std::uint32_t>& channels, std::uint32_t neighbours,
         std::uint32_t bits = 32) {
  return {rows, channels, neighbours, bits, static_cast<std::uint32_t>(channels.size())};
}

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

std::string Header(const Shape& shape, std::uint32_t version = 3, std::uint32_t start = 64) {
  std::string content = "PCMEMBNK";
  Append(content, version);
  Append(content, start);
  Append(content, shape.rows);
  for (const std::uint32_t number : {shape.neighbours, shape.bits, shape.layers}) {
    Append(content, number);
  }
  for (std::size_t i = 0; i < 4; ++i) {
    Append(content, i < shape.channels.size() ? shape.channels[i] : std::uint32_t{0});
  }
  Pad(content);
  return content;
}

// A bank whose values count up from 0 in each section; neighbours are rows.
std::string Content(const Shape& shape) {
  std::string content = Header(shape);
  for (std::size_t section = 0; section <= shape.channels.size(); ++section) {
    const bool is_layer = section < shape.channels.size();
    const std::uint64_t width = is_layer ? shape.channels[section] : 1;
    for (std::uint64_t i = 0; i < shape.rows * width; ++i) {
      if (shape.bits == 16 && is_layer) {
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
  for (const Shape& shape : {Of(1, {1, 1}, 1), Shape{}, Of(16, {16, 32}, 16), Of(33, {2, 1}, 9),
                             Of(9, {5}, 2), Of(9, {5, 1, 17}, 2), Of(9, {5, 16, 2, 3}, 2)}) {
    const Scratch folder;
    WriteFile(folder.path() / "bank", Content(shape));
    const MemoryBank bank = ReadMemoryBank(folder.path() / "bank");
    REQUIRE(bank.rows == shape.rows);
    REQUIRE(bank.layers.size() == shape.channels.size());
    CHECK(bank.neighbour_count == shape.neighbours);
    for (std::size_t i = 0; i < bank.rows; ++i) CHECK(bank.norms[i] == static_cast<float>(i));
    std::vector<const void*> sections{bank.norms, bank.origins, bank.neighbours};
    for (std::size_t i = 0; i < bank.layers.size(); ++i) {
      CHECK(bank.layers[i].channels == shape.channels[i]);
      const std::size_t last = bank.rows * shape.channels[i] - 1;
      CHECK(bank.layers[i].rows[last] == static_cast<float>(last));
      sections.push_back(bank.layers[i].rows);
    }
    CHECK(bank.origins[bank.rows * 3 - 1] == static_cast<std::int32_t>(bank.rows * 3 - 1));
    CHECK(bank.neighbours[0] == 0);
    for (const void* section : sections) {
      CHECK(reinterpret_cast<std::uintptr_t>(section) % 64 == 0);
    }
  }
}

TEST_CASE("Rows stored in half precision come as floats, exactly") {
  const Shape shape = Of(7, {3, 5, 1}, 4, 16);
  const Scratch folder;
  WriteFile(folder.path() / "bank", Content(shape));
  const MemoryBank bank = ReadMemoryBank(folder.path() / "bank");
  CHECK(bank.precision == patchcore::BankPrecision::kFloat16);
  for (const MemoryBank::Part& layer : bank.layers) {
    for (std::size_t i = 0; i < 7 * layer.channels; ++i) {
      CHECK(layer.rows[i] == static_cast<float>(i));
    }
  }
  CHECK(bank.norms[6] == 6.0F);
  CHECK(bank.neighbours[1] == 1);
}

TEST_CASE("A file cut off anywhere, or longer than it says, is refused") {
  const std::string content = Content({});
  for (std::size_t length = 0; length < content.size(); ++length) {
    CHECK(Mentions(Refusal(content.substr(0, length)), "memory_bank.bin: "));
  }
  CHECK(Mentions(Refusal(content + std::string(64, '\0')),
                 "header says 7 rows of 3 + 5 numbers of float32"));
  CHECK(Mentions(Refusal(content + "x"), "header says 7 rows of 3 + 5 numbers of float32"));
}

TEST_CASE("A header that lies about a size is refused before anything is mapped") {
  const std::string body = Content({}).substr(64);
  for (const std::uint32_t value : {0U, 60U, 65536U, 1U << 31, 0xFFFFFFFFU}) {
    CAPTURE(value);
    CHECK(Mentions(Refusal(Header(Of(value, {3, 5}, 4)) + body), "copy the folder again"));
    CHECK(Mentions(Refusal(Header(Of(7, {value, 5}, 4)) + body), "copy the folder again"));
    CHECK(Mentions(Refusal(Header(Of(7, {3, value}, 4)) + body), "copy the folder again"));
    CHECK(Mentions(Refusal(Header(Of(7, {3, 5}, value)) + body), "copy the folder again"));
  }
}

TEST_CASE("Row counts whose bytes overflow 64 bits are refused") {
  const std::string body = Content({}).substr(64);
  for (const int shift : {32, 58, 59, 60, 61, 62, 63}) {
    for (const std::uint64_t more : {0, 1, 7}) {
      const std::uint64_t rows = (std::uint64_t{1} << shift) + more;
      CHECK(Mentions(Refusal(Header(Of(rows, {3, 5}, 4)) + body),
                     "header says " + std::to_string(rows) + " rows"));
    }
  }
  const auto most = std::numeric_limits<std::uint64_t>::max();
  const std::vector<std::uint32_t> widest(4, 0xFFFFFFFFU);
  CHECK(Mentions(Refusal(Header(Of(most, widest, 0xFFFFFFFFU)) + body), "rows of"));
}

TEST_CASE("Another kind of file or version is refused") {
  std::string other = Content({});
  other[7] = 'L';
  CHECK(Mentions(Refusal(other), "expected a memory bank"));
  CHECK(Mentions(Refusal(Header({}, 2)), "version: expected 3, got 2"));
  CHECK(Mentions(Refusal(Header({}, 3, 128)), "header size: expected 64, got 128"));
  const std::string bits = Refusal(Header(Of(7, {3, 5}, 4, 8)));
  CHECK(Mentions(bits, "bits of a number: expected 32 or 16, got 8"));
}

TEST_CASE("A number of layers that the format does not know, or that hides channels, is refused") {
  const std::string body = Content({}).substr(64);
  for (const std::uint32_t layers : {0U, 1U, 5U, 0xFFFFFFFFU}) {
    Shape shape;
    shape.layers = layers;
    CHECK(Mentions(Refusal(Header(shape) + body),
                   "layers: expected 1 to 4 and no channels beyond them, got " +
                       std::to_string(layers) + " and [3, 5, 0, 0]"));
  }
  Shape shape;
  shape.layers = 3;  // the third has no channels
  CHECK(Mentions(Refusal(Header(shape) + body), "header says 7 rows of 3 + 5 + 0 numbers"));
}

TEST_CASE("A number that is not finite is refused by its layer and row") {
  std::string content = Content({});
  const float worst = std::numeric_limits<float>::quiet_NaN();
  const std::size_t second = 64 + 128;  // 21 numbers of the first layer, padded
  std::memcpy(content.data() + second + 4 * (5 * 6 + 4), &worst, sizeof(worst));
  CHECK(Mentions(Refusal(content), "layer 1: row 6: expected finite numbers, got nan"));
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
  CHECK(Mentions(Refusal(Content(Of(2, {3, 5}, 3))), "header says 2 rows"));
}

TEST_CASE("A missing bank and a folder of its name are refused") {
  const Scratch folder;
  CHECK_THROWS_WITH(ReadMemoryBank(folder.path() / "absent"), Catch::Contains("No such file"));
  CHECK_THROWS_WITH(ReadMemoryBank(folder.path()), Catch::Contains("Is a directory"));
}

}  // namespace
