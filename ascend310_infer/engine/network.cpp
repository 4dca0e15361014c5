#include "engine/network.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "engine/whole_numbers.hpp"
#include "errors.hpp"
#include "manifest/features.hpp"

namespace patchcore {
namespace {

constexpr std::int64_t kFirstOpset = 11, kLastOpset = 20;
constexpr std::size_t kMostNodes = 4096;
constexpr std::int64_t kMostNumbers = 8192;                    // of all results, per pixel
constexpr std::int64_t kMostProducts = std::int64_t{1} << 22;  // per pixel
constexpr std::int64_t kFloat = 1, kUint8 = 2, kInt8 = 3, kInt32 = 6, kBool = 9, kHalf = 10;

// Name, numbers of inputs, attributes and int64 inputs of each operator; both runtimes read this
// file.
constexpr const char* kTable[] = {
#include "operators.csv"
};
constexpr std::size_t kColumns = 4;
static_assert(std::size(kTable) % kColumns == 0);

struct Operator {
  std::vector<std::size_t> inputs;
  std::map<std::string, std::string, std::less<>> attributes;  // name -> kind
  std::set<std::size_t> whole;  // places of the inputs that are int64 constants
};

// What a value holds: arithmetic is for floating point only, as engines may end with a signal.
enum class Held { kFloats, kIntegers, kWhole, kTruths };

std::string Words(Held held) {
  switch (held) {
    case Held::kIntegers:
      return "integers";
    case Held::kWhole:
      return "int64 constants";
    case Held::kTruths:
      return "truths";
    default:
      return "floating point";
  }
}

Held HeldBy(std::int64_t type) {
  if (type == kFloat || type == kHalf) return Held::kFloats;
  return type == kInt64 ? Held::kWhole : type == kBool ? Held::kTruths : Held::kIntegers;
}

// Operators that take values of a kind as data.
bool Takes(std::string_view kind, Held held) {
  static const std::map<Held, std::set<std::string_view>> all{
      {Held::kIntegers,
       {"Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "Shape", "Transpose"}},
      {Held::kWhole,
       {"Cast", "Concat", "Gather", "Identity", "Reshape", "Shape", "Slice", "Squeeze",
        "Unsqueeze"}},
      {Held::kTruths, {"Expand", "Identity", "Shape"}},
  };
  const auto found = all.find(held);
  return found != all.end() && found->second.count(kind) > 0;
}

// What is known about a value of the graph.
struct Known {
  Shape shape;
  Held held = Held::kFloats;
  WholeNumbers numbers;  // of int64 constants
};

const std::map<std::string_view, Operator>& Operators() {
  static const std::map<std::string_view, Operator> all = [] {
    std::map<std::string_view, Operator> operators;
    for (std::size_t row = 0; row < std::size(kTable); row += kColumns) {
      Operator& one = operators[kTable[row]];
      std::istringstream counts(kTable[row + 1]), attributes(kTable[row + 2]);
      std::istringstream whole(kTable[row + 3]);
      for (std::size_t count = 0; counts >> count;) one.inputs.push_back(count);
      for (std::size_t place = 0; whole >> place;) one.whole.insert(place);
      for (std::string pair; attributes >> pair;) {
        const std::size_t colon = pair.find(':');
        one.attributes[pair.substr(0, colon)] = pair.substr(colon + 1);
      }
    }
    return operators;
  }();
  return all;
}

// The field and the name of an AttributeProto's type; empty for a type that nothing here has.
std::pair<std::string_view, std::string_view> TypeOf(std::int64_t type) {
  switch (type) {
    case 1:
      return {"f", "float"};
    case 2:
      return {"i", "int"};
    case 3:
      return {"s", "text"};
    case 4:
      return {"t", "tensor"};
    case 7:
      return {"ints", "ints"};
    default:
      return {};
  }
}

std::string Plain(std::string_view text) {
  std::string plain(text.substr(0, 40));
  std::replace_if(
      plain.begin(), plain.end(), [](char c) { return c < 32 || c > 126; }, '?');
  return plain;
}

std::string Quoted(std::string_view text) { return "'" + Plain(text) + "'"; }

std::string Shown(const Shape& shape) {
  std::string text;
  for (const std::int64_t side : shape) text += (text.empty() ? "" : "x") + std::to_string(side);
  return text.empty() ? "a single number" : text.substr(0, 80);
}

bool IsSide(std::int64_t side) { return side > 0 && side < kLongestSide; }

class Network {
 public:
  Network(std::string where, const OnnxMessage& model)
      : where_(std::move(where)), model_(model), graph_(model.One("graph").message) {}

  std::vector<NetworkEnd> Check() {
    CheckOpset();
    const Names inputs = NamesOf("input");
    if (inputs != Names{"images"}) Refuse("input", "images", Listed(inputs));
    const Shape images = Ends("input", kUint8).front().second;
    if (images.size() != 4) Refuse("images", "4 dimensions", std::to_string(images.size()));
    const Names outputs = NamesOf("output");
    const std::size_t different = std::set<std::string>(outputs.begin(), outputs.end()).size();
    if (outputs.empty() || outputs.size() > kMostLayers || different != outputs.size()) {
      Refuse("output", "1 to " + std::to_string(kMostLayers) + " of different names",
             std::to_string(outputs.size()));
    }
    std::vector<NetworkEnd> ends = Ends("output", kFloat);
    for (const std::int64_t batch : {1, 2}) CheckBatch(batch, images, ends);
    ends.insert(ends.begin(), {"images", images});
    for (auto& [name, shape] : ends) shape.erase(shape.begin());
    return ends;
  }

 private:
  void CheckOpset() const {
    const OnnxMessage& opset = model_.One("opset_import").message;
    const std::int64_t version = opset.One("version").number;
    const std::string_view domain = opset.Text("domain");
    if (domain.empty() && version >= kFirstOpset && version <= kLastOpset) return;
    Refuse("opset_import", "11 to 20 of ''", std::to_string(version) + " of " + Quoted(domain));
  }

  // Computes all shapes for a number of images.
  void CheckBatch(std::int64_t batch, const Shape& images, const std::vector<NetworkEnd>& ends) {
    values_.clear();
    weights_ = numbers_ = products_ = 0;
    values_["images"] = {WithBatch(batch, images), Held::kIntegers, {}};
    for (const OnnxValue& tensor : graph_.Many("initializer")) {
      Define(tensor.message.Text("name"), Tensor(tensor.message), "initializer");
    }
    CheckNodes(batch, images[1] * images[2]);
    for (const auto& [name, shape] : ends) {
      const auto found = values_.find(name);
      const Known got = found == values_.end() ? Known() : found->second;
      const Shape expected = WithBatch(batch, shape);
      if (got.shape != expected) Refuse(name, Shown(expected), Shown(got.shape));
      if (got.held != Held::kFloats) Refuse(name, Words(Held::kFloats), Words(got.held));
    }
  }

  static Shape WithBatch(std::int64_t batch, Shape shape) {
    shape[0] = batch;
    return shape;
  }

  void CheckNodes(std::int64_t batch, std::int64_t pixels) {
    const auto& nodes = graph_.Many("node");
    if (nodes.size() > kMostNodes) {
      Refuse("node", "at most " + std::to_string(kMostNodes), std::to_string(nodes.size()));
    }
    const auto limit = [batch](std::int64_t count) {
      return std::min(Product(count, batch), kManyNumbers - 1);
    };
    for (std::size_t number = 0; number < nodes.size(); ++number) {
      const OnnxMessage& node = nodes[number].message;
      const std::string where =
          "node " + std::to_string(number) + " (" + Plain(node.Text("op_type")) + ")";
      Node(where, node);
      const std::int64_t most =
          limit(std::min(Product(kMostNumbers, pixels) + 4 * weights_, kManyNumbers));
      if (numbers_ > most) {
        Refuse(where, "at most " + std::to_string(most) + " numbers in all results", "more");
      }
      const std::int64_t most_products = limit(Product(kMostProducts, pixels));
      if (products_ > most_products) {
        Refuse(where, "at most " + std::to_string(most_products) + " products", "more");
      }
    }
  }

  using Names = std::vector<std::string>;

  // Names of the graph's inputs or outputs.
  Names NamesOf(std::string_view kind) const {
    Names names;
    for (const OnnxValue& value : graph_.Many(kind)) {
      names.emplace_back(value.message.Text("name"));
    }
    return names;
  }

  static std::string Listed(const Names& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
    return text.empty() ? "none" : Plain(text);
  }

  // Shapes of the graph's inputs or outputs, whose first side becomes 1.
  std::vector<NetworkEnd> Ends(std::string_view kind, std::int64_t type) const {
    std::vector<NetworkEnd> ends;
    for (const OnnxValue& value : graph_.Many(kind)) {
      const OnnxMessage& tensor = value.message.One("type").message.One("tensor_type").message;
      const auto& sides = tensor.One("shape").message.Many("dim");
      bool fits = tensor.One("elem_type").number == type && !sides.empty() &&
                  !sides[0].message.Text("dim_param").empty() && !sides[0].message.Has("dim_value");
      Shape shape{1};
      for (std::size_t side = 1; fits && side < sides.size(); ++side) {
        const OnnxMessage& dim = sides[side].message;
        fits = dim.Has("dim_value") && !dim.Has("dim_param") && IsSide(dim.One("dim_value").number);
        if (fits) shape.push_back(dim.One("dim_value").number);
      }
      const std::string name(value.message.Text("name"));
      if (!fits) {
        Refuse(name, "numbers of type " + std::to_string(type) + " and (B, fixed sizes)",
               "another type or shape");
      }
      ends.emplace_back(name, std::move(shape));
    }
    return ends;
  }

  void Define(std::string_view name, Known value, const std::string& where) {
    if (name.empty() || !values_.emplace(name, std::move(value)).second) {
      Refuse(where, "a new name for each value", Quoted(name));
    }
  }

  Known Tensor(const OnnxMessage& tensor) {
    const std::string name = "tensor " + Quoted(tensor.Text("name"));
    const std::int64_t type = tensor.One("data_type").number;
    const std::int64_t width = type == kFloat || type == kInt32                   ? 4
                               : type == kUint8 || type == kInt8 || type == kBool ? 1
                               : type == kHalf                                    ? 2
                               : type == kInt64                                   ? 8
                                                                                  : 0;
    if (width == 0) Refuse(name, "type 1, 2, 3, 6, 7, 9 or 10", std::to_string(type));
    const Shape shape = tensor.Numbers("dims");
    if (!std::all_of(shape.begin(), shape.end(), IsSide) || shape.size() > kMostDimensions) {
      Refuse(name, "up to 8 dimensions above 0", Shown(shape));
    }
    std::vector<std::string_view> given;
    for (const std::string_view field : {"raw_data", "float_data", "int32_data"}) {
      if (tensor.Has(field)) given.push_back(field);
    }
    if (given.size() != 1) {
      Refuse(name, "its numbers once", std::to_string(given.size()) + " times");
    }
    const std::int64_t count = Count(name, given[0], tensor.One(given[0]), type, width);
    if (CountOf(shape) != count) Refuse(name, "as many numbers as it has", std::to_string(count));
    weights_ += count;
    if (type != kInt64) return {shape, HeldBy(type), {}};
    if (count > kMostWhole) {
      Refuse(name, "at most " + std::to_string(kMostWhole) + " integers", std::to_string(count));
    }
    std::vector<std::int64_t> numbers(static_cast<std::size_t>(count));
    std::memcpy(numbers.data(), tensor.One("raw_data").bytes.data(),
                numbers.size() * sizeof(count));
    return {shape, Held::kWhole, std::move(numbers)};
  }

  std::int64_t Count(const std::string& name, std::string_view field, const OnnxValue& value,
                     std::int64_t type, std::int64_t width) const {
    const auto size = static_cast<std::int64_t>(value.bytes.size());
    if (field == "int32_data") {
      const std::int64_t low = type == kInt8 ? -128 : 0, high = type == kInt8 ? 127 : 255;
      const auto fits = [&](std::int64_t number) { return number >= low && number <= high; };
      const bool bytes = type == kUint8 || type == kInt8;
      if (!bytes || !std::all_of(value.numbers.begin(), value.numbers.end(), fits)) {
        Refuse(name, "bytes in int32_data", "other numbers");
      }
      return static_cast<std::int64_t>(value.numbers.size());
    }
    if (field == "float_data" && type != kFloat) {
      Refuse(name, "type 1 for float_data", std::to_string(type));
    }
    if (size % width != 0) {
      Refuse(name, "a multiple of " + std::to_string(width) + " bytes", std::to_string(size));
    }
    return size / width;
  }

  void Node(const std::string& where, const OnnxMessage& node) {
    const std::string_view kind = node.Text("op_type");
    const auto found = Operators().find(kind);
    if (found == Operators().end()) Refuse(where, "an operator of the workshop", Quoted(kind));
    const auto &names = node.Many("input"), &outputs = node.Many("output");
    const auto& counts = found->second.inputs;
    const bool fits = outputs.size() == 1 || (kind == "Split" && !outputs.empty());
    if (std::find(counts.begin(), counts.end(), names.size()) == counts.end() || !fits) {
      std::string words;
      for (const std::size_t count : counts) {
        words += (words.empty() ? "" : " or ") + std::to_string(count);
      }
      Refuse(where, words + " inputs and 1 output",
             std::to_string(names.size()) + " and " + std::to_string(outputs.size()));
    }
    Call call;
    call.kind = kind;
    call.outputs = outputs.size();
    std::vector<Held> held;
    for (const OnnxValue& name : names) {
      const auto value = values_.find(name.bytes);
      if (value == values_.end()) Refuse(where, "inputs that were made before", Quoted(name.bytes));
      call.inputs.push_back(value->second.shape);
      call.numbers.push_back(value->second.numbers);
      held.push_back(value->second.held);
    }
    Known made;
    call.attributes = Attributes(where, node, found->second, made);
    if (call.attributes.count("value") == 0)
      made.held = ResultHeld(where, kind, held, found->second);
    std::vector<Shape> shapes;
    try {
      shapes = ResultShapes(call);
      if (!made.numbers) made.numbers = MadeNumbers(call);
    } catch (const ShapeError& error) {
      Refuse(where, error.what(), error.got);
    }
    if (made.numbers) made.held = Held::kWhole;
    for (const Shape& shape : shapes) {
      if (!std::all_of(shape.begin(), shape.end(), IsSide) || shape.size() > kMostDimensions) {
        Refuse(where, "up to 8 sides below 2^31", Shown(shape));
      }
      numbers_ = std::min(numbers_ + CountOf(shape), kManyNumbers);
    }
    products_ = std::min(products_ + WorkOf(call, shapes), kManyNumbers);
    for (std::size_t output = 0; output < outputs.size(); ++output) {
      made.shape = shapes[output];
      Define(outputs[output].bytes, made, where);
    }
  }

  // Checks what a node's inputs hold, and returns what its result does.
  Held ResultHeld(const std::string& where, std::string_view kind, const std::vector<Held>& inputs,
                  const Operator& known) const {
    for (std::size_t place = 0; place < inputs.size(); ++place) {
      const bool whole = known.whole.count(place) > 0;
      Held expected = whole ? Held::kWhole : Held::kFloats;
      if (kind == "Where" && place == 0) expected = Held::kTruths;
      const bool takes = !whole && Takes(kind, inputs[place]);
      if (inputs[place] != expected && !takes) {
        Refuse(where, "inputs of " + Words(expected), Words(inputs[place]));
      }
    }
    if (kind == "IsNaN") return Held::kTruths;
    if (kind == "QuantizeLinear") return Held::kIntegers;
    const bool passes = kind == "Expand" || kind == "Identity" || kind == "Transpose";
    return passes ? inputs[0] : Held::kFloats;
  }

  // A node's attributes; `constant` becomes the value of its tensor, if it has one.
  AttributeValues Attributes(const std::string& where, const OnnxMessage& node,
                             const Operator& known, Known& constant) {
    AttributeValues values;
    for (const OnnxValue& one : node.Many("attribute")) {
      const OnnxMessage& attribute = one.message;
      const std::string_view name = attribute.Text("name");
      const auto [field, kind] = TypeOf(attribute.One("type").number);
      const auto listed = known.attributes.find(name);
      if (values.count(name) > 0 || listed == known.attributes.end() || listed->second != kind) {
        Refuse(where, "attributes of the workshop, once", Quoted(name));
      }
      for (const std::string_view other : {"f", "i", "s", "t", "ints"}) {
        if (attribute.Has(other) != (other == field)) {
          Refuse(where, std::string(name) + " of type " + listed->second, "another or several");
        }
      }
      AttributeValue& value = values[name];
      value.number = attribute.One(field).number;
      value.text = attribute.One(field).bytes;
      if (field == "ints") value.numbers = attribute.Numbers(field);
      if (field == "t") {
        constant = Tensor(attribute.One(field).message);
        value.numbers = constant.shape;
      }
    }
    return values;
  }

  [[noreturn]] void Refuse(std::string_view where, const std::string& expected,
                           const std::string& got) const {
    throw ArtifactError(where_ + ": " + std::string(where) + ": expected " + expected + ", got " +
                        got + "; copy the folder again");
  }

  std::string where_;
  const OnnxMessage& model_;
  const OnnxMessage& graph_;
  std::map<std::string, Known, std::less<>> values_;
  std::int64_t weights_ = 0, numbers_ = 0, products_ = 0;
};

}  // namespace

std::vector<NetworkEnd> CheckNetwork(const std::filesystem::path& path, const OnnxModel& model) {
  return Network(path.string(), model.root).Check();
}

}  // namespace patchcore
