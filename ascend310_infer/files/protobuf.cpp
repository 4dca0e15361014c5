#include "files/protobuf.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "errors.hpp"

namespace patchcore {
namespace {

constexpr std::size_t kMostFields = 300000;

// Seven bits a byte, the lowest first.
std::string Encoded(std::uint64_t value) {
  std::string bytes;
  for (; value > 127; value >>= 7) bytes.push_back(static_cast<char>((value & 127) | 128));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}

}  // namespace

FieldReader::FieldReader(std::string where) : where_(std::move(where)) {}

Field FieldReader::Next(std::string_view& bytes) {
  if (++seen_ > kMostFields) Refuse("more than " + std::to_string(kMostFields) + " fields");
  const std::string_view before = bytes;
  Field field;
  const std::uint64_t tag = Varint(bytes);
  field.number = tag >> 3;
  field.wire = tag & 7;
  std::uint64_t length = 0;
  if (field.wire == kVarint) {
    const std::string_view number = bytes;
    Varint(bytes);
    field.content = number.substr(0, number.size() - bytes.size());
  } else if (field.wire == 1 || field.wire == 5) {
    length = field.wire == 1 ? 8 : 4;
  } else if (field.wire == kBytes) {
    length = Varint(bytes);
  } else {
    Refuse("wire type " + std::to_string(field.wire));
  }
  if (length > bytes.size() || field.number == 0) Refuse("a field that ends outside its message");
  if (field.wire != kVarint) field.content = bytes.substr(0, static_cast<std::size_t>(length));
  bytes.remove_prefix(static_cast<std::size_t>(length));
  field.whole = before.substr(0, before.size() - bytes.size());
  return field;
}

std::uint64_t FieldReader::Varint(std::string_view& bytes) const {
  std::uint64_t value = 0;
  for (unsigned int shift = 0; shift < 70 && !bytes.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes.front());
    bytes.remove_prefix(1);
    if (shift < 64) value |= static_cast<std::uint64_t>(byte & 127) << shift;
    if (byte < 128) return value;
  }
  Refuse("no number where one must be");
}

void FieldReader::Refuse(const std::string& got) const {
  throw ArtifactError(where_ + ": expected an ONNX graph, got " + got +
                      "; onnxruntime cannot load it");
}

MappedGraph::MappedGraph(const std::filesystem::path& path) {
  const auto refuse = [&](int code) {
    throw ArtifactError(path.string() + ": " + std::strerror(code) + "; copy the folder again");
  };
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) refuse(errno);
  struct stat status {};
  const bool known = fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  const auto size = static_cast<std::size_t>(known ? status.st_size : 0);
  void* pages = size > 0 ? mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
  close(file);
  if (!known) refuse(EISDIR);
  if (size == 0) FieldReader(path.string()).Refuse("no bytes");
  if (pages == MAP_FAILED) refuse(ENOMEM);
  size_ = size;
  pages_ = {pages, [size](void* at) { munmap(at, size); }};
}

std::string BytesField(std::uint64_t number, std::string_view content) {
  std::string field = Encoded(number << 3 | kBytes) + Encoded(content.size());
  return field.append(content);
}

std::string IntegerField(std::uint64_t number, std::uint64_t value) {
  return Encoded(number << 3 | kVarint) + Encoded(value);
}

}  // namespace patchcore
