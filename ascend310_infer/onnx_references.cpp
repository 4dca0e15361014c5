#include "onnx_references.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "errors.hpp"
#include "strict_json.hpp"

namespace patchcore {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostFields = 300000;
constexpr int kMostNested = 64;  // graphs in attributes of graphs
constexpr std::size_t kShown = 80;

// Messages of onnx.proto3 on the way to tensors, and the numbers of their fields.
enum class Message { kModel, kTraining, kGraph, kFunction, kNode, kAttribute, kSparse, kTensor };
using Inside = std::map<std::uint64_t, Message>;

const Inside& FieldsOf(Message message) {
  static const std::map<Message, Inside> all{
      {Message::kModel,
       {{7, Message::kGraph}, {20, Message::kTraining}, {25, Message::kFunction}}},
      {Message::kTraining, {{1, Message::kGraph}, {2, Message::kGraph}}},
      {Message::kGraph, {{1, Message::kNode}, {5, Message::kTensor}, {15, Message::kSparse}}},
      {Message::kFunction, {{7, Message::kNode}, {11, Message::kAttribute}}},
      {Message::kNode, {{5, Message::kAttribute}}},
      {Message::kAttribute,
       {{5, Message::kTensor},
        {6, Message::kGraph},
        {10, Message::kTensor},
        {11, Message::kGraph},
        {22, Message::kSparse},
        {23, Message::kSparse}}},
      {Message::kSparse, {{1, Message::kTensor}, {2, Message::kTensor}}},
  };
  return all.at(message);
}

// One tensor whose values lie in another file; as the graph has it, unchecked.
struct ExternalData {
  std::string tensor;
  std::map<std::string, std::string> entries;  // location, offset, length
};
using Found = std::function<void(const ExternalData&)>;

// A field: its number, its wire type, and the bytes of its content.
struct Field {
  std::uint64_t number = 0;
  std::uint64_t wire = 0;
  std::string_view content;
};

class Walk {
 public:
  Walk(std::string where, Found found) : where_(std::move(where)), found_(std::move(found)) {}

  void Tensors(Message message, std::string_view bytes, int depth) {
    if (depth == 0) Refuse("graphs nested deeper than " + std::to_string(kMostNested));
    const Inside& inside = FieldsOf(message);
    while (!bytes.empty()) {
      const Field field = Next(bytes);
      const auto inner = inside.find(field.number);
      if (inner == inside.end() || field.wire != 2) continue;
      if (inner->second == Message::kTensor) {
        Tensor(field.content);
      } else {
        Tensors(inner->second, field.content, depth - 1);
      }
    }
  }

 private:
  void Tensor(std::string_view bytes) {
    ExternalData data;
    bool elsewhere = false;
    while (!bytes.empty()) {
      const Field field = Next(bytes);
      if (field.number == 8 && field.wire == 2) data.tensor = field.content;  // name
      if (field.number == 13 && field.wire == 2) {                            // external_data
        elsewhere = true;
        Entry(field.content, data);
      }
      // data_location, 1: EXTERNAL
      if (field.number == 14 && field.wire == 0 && field.content == "\x01") elsewhere = true;
    }
    if (elsewhere) found_(data);
  }

  void Entry(std::string_view bytes, ExternalData& data) {
    std::string key, value;
    while (!bytes.empty()) {
      const Field field = Next(bytes);
      if (field.number == 1) key = field.content;
      if (field.number == 2) value = field.content;
    }
    data.entries[key] = value;
  }

  // Takes the first field off the bytes.
  Field Next(std::string_view& bytes) {
    if (++seen_ > kMostFields) Refuse("more than " + std::to_string(kMostFields) + " fields");
    Field field;
    const std::uint64_t tag = Varint(bytes);
    field.number = tag >> 3;
    field.wire = tag & 7;
    std::uint64_t length = 0;
    if (field.wire == 0) {
      const std::string_view before = bytes;
      Varint(bytes);
      field.content = before.substr(0, before.size() - bytes.size());
    } else if (field.wire == 1 || field.wire == 5) {
      length = field.wire == 1 ? 8 : 4;
    } else if (field.wire == 2) {
      length = Varint(bytes);
    } else {
      Refuse("wire type " + std::to_string(field.wire));
    }
    if (length > bytes.size() || field.number == 0) Refuse("a field that ends outside its message");
    if (field.wire != 0) field.content = bytes.substr(0, static_cast<std::size_t>(length));
    bytes.remove_prefix(static_cast<std::size_t>(length));
    return field;
  }

  std::uint64_t Varint(std::string_view& bytes) {
    std::uint64_t value = 0;
    for (unsigned int shift = 0; shift < 70 && !bytes.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes.front());
      bytes.remove_prefix(1);
      if (shift < 64) value |= static_cast<std::uint64_t>(byte & 127) << shift;
      if (byte < 128) return value;
    }
    Refuse("no number where one must be");
  }

  [[noreturn]] void Refuse(const std::string& got) const {
    throw ArtifactError(where_ + ": expected an ONNX graph, got " + got +
                        "; onnxruntime cannot load it");
  }

  std::string where_;
  Found found_;
  std::size_t seen_ = 0;
};

// Maps the graph, and shows each tensor that lies elsewhere.
void ForEachReference(const fs::path& path, const Found& found) {
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
  if (size == 0) {
    throw ArtifactError(path.string() +
                        ": expected an ONNX graph, got no bytes; onnxruntime cannot load it");
  }
  if (pages == MAP_FAILED) refuse(ENOMEM);
  const std::shared_ptr<void> mapped(pages, [size](void* at) { munmap(at, size); });
  Walk walk(path.string(), found);
  walk.Tensors(Message::kModel, {static_cast<const char*>(pages), size}, kMostNested);
}

[[noreturn]] void Refuse(const fs::path& path, const ExternalData& data, const std::string& field,
                         const std::string& expected) {
  const auto entry = data.entries.find(field);
  const std::string got = entry == data.entries.end() ? "" : entry->second;
  throw ArtifactError(path.string() + ": external data of '" + Printable(data.tensor, kShown / 2) +
                      "': " + field + ": expected " + expected + ", got '" +
                      Printable(got, kShown) + "'; copy the folder again");
}

std::uint64_t Number(const fs::path& path, const ExternalData& data, const std::string& field) {
  const auto entry = data.entries.find(field);
  const std::string text =
      entry != data.entries.end() ? entry->second : field == "offset" ? "0" : "";
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, failure] = std::from_chars(text.data(), end, value);
  if (text.empty() || text.size() >= 20 || failure != std::errc() || stopped != end) {
    Refuse(path, data, field, "a whole number");
  }
  return value;
}

}  // namespace

void CheckNoReferences(const fs::path& graph) {
  ForEachReference(graph, [&](const ExternalData& data) {
    Refuse(graph, data, "location", "none: it holds all its weights");
  });
}

void CheckReferences(const fs::path& graph, std::string_view location, const MemoryBank& bank) {
  ForEachReference(graph, [&](const ExternalData& data) {
    const auto entry = data.entries.find("location");
    if (entry == data.entries.end() || entry->second != location) {
      Refuse(graph, data, "location", std::string(location));
    }
    const std::uint64_t start = Number(graph, data, "offset");
    const std::uint64_t length = Number(graph, data, "length");
    const auto holds = [&](const MemoryBank::Section& part) {
      return start >= part.offset && length <= part.size &&
             start - part.offset <= part.size - length;
    };
    if (!std::any_of(bank.sections.begin(), bank.sections.end(), holds)) {
      Refuse(graph, data, "offset", "a place inside one section of " + std::string(location));
    }
  });
}

}  // namespace patchcore
