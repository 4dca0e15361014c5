#include "files/protobuf.hpp"

#include <limits>
#include <utility>

#include "errors.hpp"

namespace patchcore {
namespace {

constexpr std::size_t kMostFields = 300000;
constexpr std::uint64_t kMostNumber = (std::uint64_t{1} << 29) - 1;  // of a field

}  // namespace

FieldReader::FieldReader(std::string where) : where_(std::move(where)) {}

Field FieldReader::Next(std::string_view& bytes) {
  Count();
  Field field;
  const std::uint64_t tag = Varint(bytes);
  field.number = tag >> 3;
  field.wire = tag & 7;
  if (field.number == 0 || field.number > kMostNumber) {
    Refuse("field number " + std::to_string(field.number));
  }
  std::uint64_t length = 0;
  if (field.wire == kVarint) {
    field.value = Varint(bytes);
  } else if (field.wire == kBytes) {
    length = Varint(bytes);
  } else if (field.wire == kFixed32) {
    length = 4;
  } else {
    Refuse("wire type " + std::to_string(field.wire));
  }
  if (length > bytes.size()) Refuse("a field that ends outside of its message");
  field.content = bytes.substr(0, static_cast<std::size_t>(length));
  bytes.remove_prefix(static_cast<std::size_t>(length));
  return field;
}

std::vector<std::uint64_t> FieldReader::Packed(std::string_view bytes) {
  std::vector<std::uint64_t> numbers;
  while (!bytes.empty()) {
    Count();
    numbers.push_back(Varint(bytes));
  }
  return numbers;
}

void FieldReader::Count() {
  if (++seen_ > kMostFields) Refuse("more than " + std::to_string(kMostFields) + " fields");
}

std::uint64_t FieldReader::Varint(std::string_view& bytes) const {
  std::uint64_t value = 0;
  for (unsigned int shift = 0; shift < 70 && !bytes.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes.front());
    bytes.remove_prefix(1);
    const auto bits = static_cast<std::uint64_t>(byte & 127);
    const bool fits = bits <= std::numeric_limits<std::uint64_t>::max() >> shift;
    value |= bits << shift;
    if (byte >= 128) continue;
    if (!fits || (byte == 0 && shift > 0)) Refuse("a number that is not in its shortest form");
    return value;
  }
  Refuse("no number where one must be");
}

void FieldReader::Refuse(const std::string& got) const {
  throw ArtifactError(where_ + ": expected an ONNX graph as the workshop writes it, got " + got +
                      "; copy the folder again");
}

std::string Varint(std::uint64_t value) {
  std::string bytes;
  for (; value > 127; value >>= 7) bytes.push_back(static_cast<char>((value & 127) | 128));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}

std::string BytesField(std::uint64_t number, std::string_view content) {
  std::string field = Varint(number << 3 | kBytes) + Varint(content.size());
  return field.append(content);
}

std::string IntegerField(std::uint64_t number, std::uint64_t value) {
  return Varint(number << 3 | kVarint) + Varint(value);
}

std::string Fixed32Field(std::uint64_t number, std::string_view content) {
  std::string field = Varint(number << 3 | kFixed32);
  return field.append(content);
}

}  // namespace patchcore
