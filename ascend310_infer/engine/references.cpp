#include "engine/references.hpp"

#include <algorithm>
#include <charconv>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "errors.hpp"
#include "files/protobuf.hpp"
#include "messages.hpp"

namespace patchcore {
namespace {

namespace fs = std::filesystem;

constexpr int kMostNested = 64;  // graphs in attributes of graphs
constexpr std::size_t kShown = 80;

// Messages of onnx.proto3 on the way to tensors, and the numbers of their fields.
enum class Message { kModel, kTraining, kGraph, kFunction, kNode, kAttribute, kSparse, kTensor };
using Inside = std::map<std::uint64_t, Message>;

const Inside& FieldsOf(Message message) {
  static const std::map<Message, Inside> all{
      {Message::kModel, {{7, Message::kGraph}, {20, Message::kTraining}, {25, Message::kFunction}}},
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

class Walk {
 public:
  Walk(std::string where, Found found) : reader_(std::move(where)), found_(std::move(found)) {}

  void Tensors(Message message, std::string_view bytes, int depth) {
    if (depth == 0) reader_.Refuse("graphs nested deeper than " + std::to_string(kMostNested));
    const Inside& inside = FieldsOf(message);
    while (!bytes.empty()) {
      const Field field = reader_.Next(bytes);
      const auto inner = inside.find(field.number);
      if (inner == inside.end() || field.wire != kBytes) continue;
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
      const Field field = reader_.Next(bytes);
      if (field.number == 8 && field.wire == kBytes) data.tensor = field.content;  // name
      if (field.number == 13 && field.wire == kBytes) {                            // external_data
        elsewhere = true;
        Entry(field.content, data);
      }
      // data_location, 1: EXTERNAL
      if (field.number == 14 && field.wire == kVarint && field.content == "\x01") elsewhere = true;
    }
    if (elsewhere) found_(data);
  }

  void Entry(std::string_view bytes, ExternalData& data) {
    std::string key, value;
    while (!bytes.empty()) {
      const Field field = reader_.Next(bytes);
      if (field.number == 1) key = field.content;
      if (field.number == 2) value = field.content;
    }
    data.entries[key] = value;
  }

  FieldReader reader_;
  Found found_;
};

// Maps the graph, and shows each tensor that lies elsewhere.
void ForEachReference(const fs::path& path, const Found& found) {
  const MappedGraph graph(path);
  Walk walk(path.string(), found);
  walk.Tensors(Message::kModel, graph.bytes(), kMostNested);
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
  const std::string text = entry != data.entries.end() ? entry->second
                           : field == "offset"         ? "0"
                                                       : "";
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

void CheckReferences(const fs::path& graph, std::string_view location,
                     const std::vector<ByteRange>& ranges) {
  ForEachReference(graph, [&](const ExternalData& data) {
    const auto entry = data.entries.find("location");
    if (entry == data.entries.end() || entry->second != location) {
      Refuse(graph, data, "location", std::string(location));
    }
    const std::uint64_t start = Number(graph, data, "offset");
    const std::uint64_t length = Number(graph, data, "length");
    const auto holds = [&](const ByteRange& part) {
      return start >= part.offset && length <= part.size &&
             start - part.offset <= part.size - length;
    };
    if (!std::any_of(ranges.begin(), ranges.end(), holds)) {
      Refuse(graph, data, "offset", "a place inside one section of " + std::string(location));
    }
  });
}

}  // namespace patchcore
