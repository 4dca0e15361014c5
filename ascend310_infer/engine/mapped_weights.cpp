#include "engine/mapped_weights.hpp"

#include <string_view>
#include <utility>

#include "files/protobuf.hpp"

namespace patchcore {
namespace {

constexpr std::uint64_t kGraph = 7, kInitializer = 5;  // fields of ModelProto and GraphProto
constexpr std::uint64_t kRawData = 9, kExternalData = 13, kDataLocation = 14;  // of TensorProto

class Rewriter {
 public:
  Rewriter(const std::filesystem::path& path, std::size_t least_bytes)
      : reader_(path.string()),
        file_(path),
        location_(path.filename().string()),
        least_bytes_(least_bytes) {}

  std::string Model() { return Each(file_.bytes(), kGraph, &Rewriter::Graph); }

 private:
  std::string Graph(std::string_view graph) { return Each(graph, kInitializer, &Rewriter::Tensor); }

  // The fields of a message; those of one number, messages themselves, are rewritten.
  std::string Each(std::string_view left, std::uint64_t number,
                   std::string (Rewriter::*rewrite)(std::string_view)) {
    std::string message;
    while (!left.empty()) {
      const Field field = reader_.Next(left);
      if (field.number == number && field.wire == kBytes) {
        message += BytesField(number, (this->*rewrite)(field.content));
      } else {
        message += field.whole;
      }
    }
    return message;
  }

  std::string Tensor(std::string_view tensor) {
    std::string kept;
    std::string_view values;
    std::size_t found = 0;
    bool elsewhere = false;
    for (std::string_view left = tensor; !left.empty();) {
      const Field field = reader_.Next(left);
      elsewhere = elsewhere || field.number == kExternalData || field.number == kDataLocation;
      if (field.number == kRawData && field.wire == kBytes) {
        values = field.content;
        ++found;
      } else {
        kept += field.whole;
      }
    }
    if (elsewhere || found != 1 || values.size() < least_bytes_) return std::string(tensor);
    const auto offset = static_cast<std::size_t>(values.data() - file_.bytes().data());
    const std::pair<std::string_view, std::string> entries[] = {
        {"location", location_},
        {"offset", std::to_string(offset)},
        {"length", std::to_string(values.size())}};
    for (const auto& [key, value] : entries) {
      kept += BytesField(kExternalData, BytesField(1, key) + BytesField(2, value));
    }
    return kept + IntegerField(kDataLocation, 1);
  }

  FieldReader reader_;
  MappedGraph file_;
  std::string location_;
  std::size_t least_bytes_;
};

}  // namespace

std::string GraphInPlace(const std::filesystem::path& path, std::size_t least_bytes) {
  return Rewriter(path, least_bytes).Model();
}

}  // namespace patchcore
