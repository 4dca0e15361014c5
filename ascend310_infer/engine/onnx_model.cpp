#include "engine/onnx_model.hpp"

#include <limits>
#include <utility>

#include "engine/onnx_file.hpp"
#include "errors.hpp"
#include "files/protobuf.hpp"
#include "messages.hpp"

namespace patchcore {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLongestText = 1000;
constexpr std::uint64_t kMostEnum = 14;  // of AttributeProto.AttributeType, the only one
constexpr std::uint64_t kMostModelBytes = (std::uint64_t{1} << 31) - 1;

// Message, number, name, content and times of each field; both runtimes read this file.
constexpr const char* kTable[] = {
#include "onnx_fields.csv"
};
constexpr std::size_t kColumns = 5;
static_assert(std::size(kTable) % kColumns == 0);

struct Rule {
  std::string_view name, content;
  bool many = false, needed = false;

  std::uint64_t Wire() const {
    if (content == "int64" || content == "int32" || content == "enum") return kVarint;
    return content == "float" ? kFixed32 : kBytes;
  }
};
using Rules = std::map<std::uint64_t, Rule>;  // by number

const Rules& RulesOf(std::string_view message) {
  static const std::map<std::string_view, Rules> all = [] {
    std::map<std::string_view, Rules> rules;
    for (std::size_t row = 0; row < std::size(kTable); row += kColumns) {
      const std::string_view times = kTable[row + 4];
      rules[kTable[row]][std::stoul(kTable[row + 1])] = {kTable[row + 2], kTable[row + 3],
                                                         times == "many", times == "one"};
    }
    return rules;
  }();
  return all.at(message);
}

class Reader {
 public:
  explicit Reader(std::string where) : fields_(std::move(where)) {}

  OnnxMessage Message(std::string_view kind, std::string_view bytes) {
    const Rules& rules = RulesOf(kind);
    OnnxMessage message;
    std::uint64_t last = 0;
    while (!bytes.empty()) {
      const Field field = fields_.Next(bytes);
      const auto found = rules.find(field.number);
      if (found == rules.end()) {
        fields_.Refuse("field " + std::to_string(field.number) + " of a " + std::string(kind));
      }
      const Rule& rule = found->second;
      const std::string name = std::string(kind) + "." + std::string(rule.name);
      if (field.wire != rule.Wire()) {
        fields_.Refuse("wire type " + std::to_string(field.wire) + " of " + name);
      }
      if (field.number < last || (field.number == last && !rule.many)) {
        fields_.Refuse(name + " a second time or too late");
      }
      last = field.number;
      message.Add(rule.name, Value(rule, field, name));
    }
    for (const auto& [number, rule] : rules) {
      if (rule.needed && !message.Has(rule.name)) {
        fields_.Refuse("a " + std::string(kind) + " without " + std::string(rule.name));
      }
    }
    return message;
  }

 private:
  OnnxValue Value(const Rule& rule, const Field& field, const std::string& name) {
    OnnxValue value;
    value.bytes = field.content;
    const std::string_view content = rule.content;
    if (rule.Wire() == kVarint) {
      value.number = Signed(field.value, content == "int32", name);
      if (content == "enum" && field.value > kMostEnum) {
        fields_.Refuse(name + " " + std::to_string(field.value));
      }
    } else if (content == "int32s") {
      for (const std::uint64_t number : fields_.Packed(field.content)) {
        value.numbers.push_back(Signed(number, true, name));
      }
      if (value.numbers.empty()) fields_.Refuse("no numbers in " + name);
    } else if (content == "text") {
      CheckText(field.content, name);
    } else if (content == "floats") {
      const std::size_t size = field.content.size();
      if (size == 0 || size % 4 != 0) {
        fields_.Refuse(std::to_string(size) + " bytes of " + name);
      }
    } else if (content != "bytes" && content != "float") {
      value.message = Message(content, field.content);
    }
    return value;
  }

  std::int64_t Signed(std::uint64_t value, bool narrow, const std::string& name) const {
    const auto number = static_cast<std::int64_t>(value);
    using Narrow = std::numeric_limits<std::int32_t>;
    if (narrow && (number < Narrow::min() || number > Narrow::max())) {
      fields_.Refuse(name + " of more than 32 bits");
    }
    return number;
  }

  void CheckText(std::string_view text, const std::string& name) const {
    if (text.size() > kLongestText) {
      fields_.Refuse("more than " + std::to_string(kLongestText) + " bytes of " + name);
    }
    if (!IsUtf8(text)) fields_.Refuse(name + " that is not UTF-8");
  }

  FieldReader fields_;
};

class Writer {
 public:
  Writer(std::string_view file, std::string location, std::size_t least_bytes)
      : file_(file), location_(std::move(location)), least_bytes_(least_bytes) {}

  std::string Message(std::string_view kind, const OnnxMessage& message) const {
    std::string bytes;
    for (const auto& [number, rule] : RulesOf(kind)) {
      for (const OnnxValue& value : message.Many(rule.name)) bytes += Field(number, rule, value);
    }
    return bytes;
  }

 private:
  std::string Field(std::uint64_t number, const Rule& rule, const OnnxValue& value) const {
    if (rule.Wire() == kVarint) {
      return IntegerField(number, static_cast<std::uint64_t>(value.number));
    }
    if (rule.Wire() == kFixed32) return Fixed32Field(number, value.bytes);
    if (rule.content == "bytes" && value.bytes.size() >= least_bytes_) {
      const auto offset = static_cast<std::size_t>(value.bytes.data() - file_.data());
      return ExternalPlace(location_, offset, value.bytes.size());
    }
    if (rule.content == "int32s") {
      std::string packed;
      for (const std::int64_t item : value.numbers) {
        packed += Varint(static_cast<std::uint64_t>(item));
      }
      return BytesField(number, packed);
    }
    const bool plain =
        rule.content == "text" || rule.content == "floats" || rule.content == "bytes";
    return plain ? BytesField(number, value.bytes)
                 : BytesField(number, Message(rule.content, value.message));
  }

  std::string_view file_;
  std::string location_;
  std::size_t least_bytes_;
};

}  // namespace

bool OnnxMessage::Has(std::string_view name) const { return fields_.count(name) > 0; }

const std::vector<OnnxValue>& OnnxMessage::Many(std::string_view name) const {
  static const std::vector<OnnxValue> none;
  const auto found = fields_.find(name);
  return found == fields_.end() ? none : found->second;
}

std::string_view OnnxMessage::Text(std::string_view name) const {
  return Has(name) ? One(name).bytes : std::string_view();
}

std::vector<std::int64_t> OnnxMessage::Numbers(std::string_view name) const {
  std::vector<std::int64_t> numbers;
  for (const OnnxValue& value : Many(name)) numbers.push_back(value.number);
  return numbers;
}

void OnnxMessage::Add(std::string_view name, OnnxValue value) {
  fields_[name].push_back(std::move(value));
}

OnnxModel ReadModel(const fs::path& path) {
  OnnxModel model;
  try {
    model.file = MappedFile(RegularFile(path, kMostModelBytes, Links::kOwnFolder));
  } catch (const FileError& error) {
    throw ArtifactError(path.string() + ": " + error.what() + "; copy the folder again");
  }
  if (model.file.bytes().empty()) FieldReader(path.string()).Refuse("no bytes");
  model.root = Reader(path.string()).Message("model", model.file.bytes());
  return model;
}

std::string ModelBytes(const OnnxModel& model, const std::string& location,
                       std::size_t least_bytes) {
  return Writer(model.file.bytes(), location, least_bytes).Message("model", model.root);
}

}  // namespace patchcore
