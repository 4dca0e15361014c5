#include "engine/operator_shapes.hpp"

#include <algorithm>
#include <array>
#include <numeric>

namespace patchcore {
namespace {

constexpr std::int64_t kMost = 65536;  // of an attribute's number
constexpr std::int64_t kCastTypes[] = {1, 10};

using Inputs = std::vector<Shape>;
using Pair = std::array<std::int64_t, 2>;

void Expect(bool holds, const std::string& expected, const std::string& got) {
  if (!holds) throw ShapeError(expected, got);
}

const AttributeValue& Required(const AttributeValues& attributes, std::string_view name) {
  const auto found = attributes.find(name);
  Expect(found != attributes.end(), std::string(name), "none");
  return found->second;
}

std::size_t Axis(std::int64_t axis, std::size_t length) {
  const auto sides = static_cast<std::int64_t>(length);
  Expect(-sides <= axis && axis < sides, "an axis of " + std::to_string(length),
         std::to_string(axis));
  return static_cast<std::size_t>(axis < 0 ? axis + sides : axis);
}

Shape Cast(const Inputs& inputs, const AttributeValues& attributes) {
  const std::int64_t to = Required(attributes, "to").number;
  const bool known =
      std::find(std::begin(kCastTypes), std::end(kCastTypes), to) != std::end(kCastTypes);
  Expect(known, "to of a type 1 or 10", std::to_string(to));
  return inputs[0];
}

Shape Normalised(const Inputs& inputs, const AttributeValues&) {
  const auto fits = [&](const Shape& other) { return other == Shape{inputs[0][1]}; };
  Expect(inputs[0].size() > 1 && std::all_of(inputs.begin() + 1, inputs.end(), fits),
         "one number for each channel", "another shape");
  return inputs[0];
}

Shape Quantized(const Inputs& inputs, const AttributeValues& attributes) {
  const Shape &first = inputs[0], &scale = inputs[1], &zero = inputs[2];
  bool fits = scale.empty() || scale == Shape{1};
  if (attributes.count("axis") > 0 && !first.empty()) {
    const std::size_t axis = Axis(attributes.at("axis").number, first.size());
    fits = fits || scale == Shape{first[axis]};
  }
  Expect(scale == zero && fits, "one scale for each channel", "another shape");
  return first;
}

Shape Constant(const Inputs&, const AttributeValues& attributes) {
  return Required(attributes, "value").numbers;
}

Shape Turned(const Inputs& inputs, const AttributeValues& attributes) {
  const Shape& order = Required(attributes, "perm").numbers;
  Shape sorted = order, all(inputs[0].size());
  std::sort(sorted.begin(), sorted.end());
  std::iota(all.begin(), all.end(), 0);
  Expect(sorted == all, "perm of all axes", "another");
  Shape turned;
  for (const std::int64_t axis : order) turned.push_back(inputs[0][static_cast<std::size_t>(axis)]);
  return turned;
}

Shape Same(const Inputs& inputs, const AttributeValues&) { return inputs[0]; }

std::array<std::int64_t, 4> Pads(const AttributeValues& attributes) {
  const auto rule = attributes.find("auto_pad"), given = attributes.find("pads");
  const std::string_view name = rule == attributes.end() ? "NOTSET" : rule->second.text;
  Expect(name == "NOTSET" || name == "VALID", "auto_pad NOTSET or VALID", "another");
  Expect(name == "NOTSET" || given == attributes.end(), "auto_pad or pads", "both");
  std::array<std::int64_t, 4> pads{};
  if (given == attributes.end()) return pads;
  const Shape& numbers = given->second.numbers;
  const auto fits = [](std::int64_t pad) { return pad >= 0 && pad <= kMost; };
  Expect(numbers.size() == pads.size() && std::all_of(numbers.begin(), numbers.end(), fits),
         "4 pads of 0 to " + std::to_string(kMost), "others");
  std::copy(numbers.begin(), numbers.end(), pads.begin());
  return pads;
}

Pair PairOf(const AttributeValues& attributes, std::string_view name) {
  const auto given = attributes.find(name);
  if (given == attributes.end()) return {1, 1};
  const Shape& numbers = given->second.numbers;
  const auto fits = [](std::int64_t number) { return number >= 1 && number <= kMost; };
  Expect(numbers.size() == 2 && std::all_of(numbers.begin(), numbers.end(), fits),
         "2 " + std::string(name) + " of 1 to " + std::to_string(kMost), "others");
  return {numbers[0], numbers[1]};
}

// Appends the height and width of a window's results.
void Slide(const Shape& planes, const Pair& window, const Pair& dilations,
           const AttributeValues& attributes, Shape& result) {
  const auto pads = Pads(attributes);
  const Pair strides = PairOf(attributes, "strides");
  for (std::size_t axis = 0; axis < 2; ++axis) {
    const std::int64_t covered = dilations[axis] * (window[axis] - 1) + 1;
    const std::int64_t padded = planes[axis + 2] + pads[axis] + pads[axis + 2];
    Expect(covered <= padded, "a window of at most " + std::to_string(padded),
           std::to_string(covered));
    result.push_back((padded - covered) / strides[axis] + 1);
  }
}

Shape Convolved(const Inputs& inputs, const AttributeValues& attributes) {
  const Shape &planes = inputs[0], &weight = inputs[1];
  Expect(planes.size() == 4 && weight.size() == 4, "planes and weights of 4 dimensions", "others");
  const auto given = attributes.find("group");
  const std::int64_t group = given == attributes.end() ? 1 : given->second.number;
  const bool fits = group >= 1 && group <= kMost && planes[1] == Product(weight[1], group) &&
                    weight[0] % group == 0;
  Expect(fits, "channels that fit the weights",
         std::to_string(planes[1]) + " and " + std::to_string(weight[1]) + " x " +
             std::to_string(group));
  if (inputs.size() == 3) {
    Expect(inputs[2] == Shape{weight[0]}, "a bias for each channel", "another shape");
  }
  const Pair window{weight[2], weight[3]};
  const auto kernel = attributes.find("kernel_shape");
  Expect(
      kernel == attributes.end() || kernel->second.numbers == Shape(window.begin(), window.end()),
      "its kernel", "another");
  Shape result{planes[0], weight[0]};
  Slide(planes, window, PairOf(attributes, "dilations"), attributes, result);
  return result;
}

Shape Pooled(const Inputs& inputs, const AttributeValues& attributes) {
  const Shape& planes = inputs[0];
  Expect(planes.size() == 4, "planes of 4 dimensions", std::to_string(planes.size()));
  Required(attributes, "kernel_shape");
  const Pair window = PairOf(attributes, "kernel_shape");
  const auto counted = attributes.find("count_include_pad");
  Expect(counted == attributes.end() || counted->second.number == 0 || counted->second.number == 1,
         "count_include_pad 0 or 1", "another");
  const std::int64_t smallest = std::min(window[0], window[1]);
  const auto pads = Pads(attributes);
  Expect(*std::max_element(pads.begin(), pads.end()) < smallest,
         "pads below " + std::to_string(smallest), "more");
  Shape result{planes[0], planes[1]};
  Slide(planes, window, {1, 1}, attributes, result);
  return result;
}

Shape Joined(const Inputs& inputs, const AttributeValues& attributes) {
  Shape joined = inputs[0];
  const std::size_t axis = Axis(Required(attributes, "axis").number, joined.size());
  for (std::size_t input = 1; input < inputs.size(); ++input) {
    bool same = inputs[input].size() == joined.size();
    for (std::size_t side = 0; same && side < joined.size(); ++side) {
      same = side == axis || inputs[input][side] == joined[side];
    }
    Expect(same, "shapes that differ along the axis only", "others");
    joined[axis] = std::min(joined[axis] + inputs[input][axis], kManyNumbers);
  }
  return joined;
}

Shape Broadcast(const Inputs& inputs, const AttributeValues&) {
  Shape left = inputs[0], right = inputs[1];
  left.insert(left.begin(), std::max(left.size(), right.size()) - left.size(), 1);
  right.insert(right.begin(), left.size() - right.size(), 1);
  for (std::size_t side = 0; side < left.size(); ++side) {
    const bool fits = left[side] == right[side] || left[side] == 1 || right[side] == 1;
    Expect(fits, "shapes that can be combined", "others");
    left[side] = std::max(left[side], right[side]);
  }
  return left;
}

using Rule = Shape (*)(const Inputs&, const AttributeValues&);

const std::map<std::string_view, Rule>& Rules() {
  static const std::map<std::string_view, Rule> rules{
      {"Add", Broadcast},
      {"AveragePool", Pooled},
      {"BatchNormalization", Normalised},
      {"Cast", Cast},
      {"Concat", Joined},
      {"Constant", Constant},
      {"Conv", Convolved},
      {"DequantizeLinear", Quantized},
      {"Div", Broadcast},
      {"Log", Same},
      {"Max", Broadcast},
      {"MaxPool", Pooled},
      {"Mul", Broadcast},
      {"QuantizeLinear", Quantized},
      {"Relu", Same},
      {"Sqrt", Same},
      {"Sub", Broadcast},
      {"Transpose", Turned},
  };
  return rules;
}

}  // namespace

Shape ResultShape(std::string_view kind, const std::vector<Shape>& inputs,
                  const AttributeValues& attributes) {
  return Rules().at(kind)(inputs, attributes);
}

std::int64_t Product(std::int64_t left, std::int64_t right) {
  return left != 0 && right > kManyNumbers / left ? kManyNumbers : left * right;
}

std::int64_t CountOf(const Shape& shape, std::size_t from) {
  std::int64_t count = 1;
  for (std::size_t side = from; side < shape.size(); ++side) count = Product(count, shape[side]);
  return count;
}

std::int64_t WorkOf(std::string_view kind, const std::vector<Shape>& inputs,
                    const AttributeValues& attributes, const Shape& result) {
  if (kind == "Conv") return Product(CountOf(result), CountOf(inputs[1], 1));
  const auto window = attributes.find("kernel_shape");
  const bool pools = window != attributes.end();
  return Product(CountOf(result), pools ? CountOf(window->second.numbers) : 1);
}

}  // namespace patchcore
