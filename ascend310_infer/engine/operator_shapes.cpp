#include "engine/operator_shapes.hpp"

#include <algorithm>
#include <array>

#include "engine/rearranged_shapes.hpp"
#include "engine/whole_numbers.hpp"

namespace patchcore {
namespace {

constexpr std::int64_t kCastTypes[] = {1, 10, kInt64};

using Pair = std::array<std::int64_t, 2>;

bool IsNumber(const Shape& shape) { return shape.empty() || shape == Shape{1}; }

Shape Cast(const Call& call) {
  const std::int64_t to = Required(call, "to").number;
  const bool known =
      std::find(std::begin(kCastTypes), std::end(kCastTypes), to) != std::end(kCastTypes);
  Expect(known, "to of a type 1, 7 or 10", std::to_string(to));
  return call.inputs[0];
}

Shape Normalised(const Call& call) {
  const Shape& first = call.inputs[0];
  Only(call, "training_mode", 0);
  const auto fits = [&](const Shape& other) { return other == Shape{first[1]}; };
  Expect(first.size() > 1 && std::all_of(call.inputs.begin() + 1, call.inputs.end(), fits),
         "one number for each channel", "another shape");
  return first;
}

Shape LayerNormalised(const Call& call) {
  const Shape& first = call.inputs[0];
  Only(call, "stash_type", 1);
  const std::size_t axis = AxisOf(IntOf(call, "axis", -1), first.size());
  const Shape scaled(first.begin() + static_cast<std::ptrdiff_t>(axis), first.end());
  const auto fits = [&](const Shape& other) { return other == scaled; };
  Expect(std::all_of(call.inputs.begin() + 1, call.inputs.end(), fits), "scales of its axes",
         "others");
  return first;
}

Shape Quantized(const Call& call) {
  const Shape &first = call.inputs[0], &scale = call.inputs[1], &zero = call.inputs[2];
  bool fits = IsNumber(scale);
  if (call.attributes.count("axis") > 0 && !first.empty()) {
    const std::size_t axis = AxisOf(call.attributes.at("axis").number, first.size());
    fits = fits || scale == Shape{first[axis]};
  }
  Expect(scale == zero && fits, "one scale for each channel", "another shape");
  return first;
}

Shape Constant(const Call& call) { return Required(call, "value").numbers; }

Shape Same(const Call& call) { return call.inputs[0]; }

Shape Limited(const Call& call) {
  Expect(std::all_of(call.inputs.begin() + 1, call.inputs.end(), IsNumber), "single limits",
         "others");
  return call.inputs[0];
}

Shape Softmax(const Call& call) {
  AxisOf(IntOf(call, "axis", -1), call.inputs[0].size());
  return call.inputs[0];
}

Shape Multiplied(const Call& call) {
  const Shape &left = call.inputs[0], &right = call.inputs[1];
  Expect(left.size() > 1 && right.size() > 1 && left.back() == right[right.size() - 2],
         "matrices that fit", "others");
  Shape result =
      Broadcast(Shape(left.begin(), left.end() - 2), Shape(right.begin(), right.end() - 2));
  result.push_back(left[left.size() - 2]);
  result.push_back(right.back());
  return result;
}

Shape GeneralProduct(const Call& call) {
  Shape left = call.inputs[0], right = call.inputs[1];
  Expect(left.size() == 2 && right.size() == 2, "two matrices", "others");
  if (Flag(call, "transA", false)) std::swap(left[0], left[1]);
  if (Flag(call, "transB", false)) std::swap(right[0], right[1]);
  Expect(left[1] == right[0], "matrices that fit", "others");
  const Shape result{left[0], right[1]};
  if (call.inputs.size() == 3) {
    const Shape& added = call.inputs[2];
    Expect(added.size() <= 2 && Broadcast(added, result) == result, "an addition that fits",
           "another shape");
  }
  return result;
}

Shape Reduced(const Call& call) {
  const Shape& shape = call.inputs[0];
  Only(call, "noop_with_empty_axes", 0);
  const auto axes = AxesOf(call, shape.size());
  Expect(!axes.empty(), "axes", "none");
  const bool keeps = Flag(call, "keepdims", true);
  Shape result;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    const bool reduced = std::find(axes.begin(), axes.end(), axis) != axes.end();
    if (keeps || !reduced) result.push_back(reduced ? 1 : shape[axis]);
  }
  return result;
}

Shape Averaged(const Call& call) {
  const Shape& planes = call.inputs[0];
  Expect(planes.size() == 4, "planes of 4 dimensions", std::to_string(planes.size()));
  return {planes[0], planes[1], 1, 1};
}

std::array<std::int64_t, 4> Pads(const Call& call) {
  const auto rule = call.attributes.find("auto_pad"), given = call.attributes.find("pads");
  const std::string_view name = rule == call.attributes.end() ? "NOTSET" : rule->second.text;
  Expect(name == "NOTSET" || name == "VALID", "auto_pad NOTSET or VALID", "another");
  Expect(name == "NOTSET" || given == call.attributes.end(), "auto_pad or pads", "both");
  std::array<std::int64_t, 4> pads{};
  if (given == call.attributes.end()) return pads;
  const Shape& numbers = given->second.numbers;
  const auto fits = [](std::int64_t pad) { return pad >= 0 && pad <= kMostOfAttribute; };
  Expect(numbers.size() == pads.size() && std::all_of(numbers.begin(), numbers.end(), fits),
         "4 pads of 0 to " + std::to_string(kMostOfAttribute), "others");
  std::copy(numbers.begin(), numbers.end(), pads.begin());
  return pads;
}

Pair PairOf(const Call& call, std::string_view name) {
  const auto given = call.attributes.find(name);
  if (given == call.attributes.end()) return {1, 1};
  const Shape& numbers = given->second.numbers;
  const auto fits = [](std::int64_t number) { return number >= 1 && number <= kMostOfAttribute; };
  Expect(numbers.size() == 2 && std::all_of(numbers.begin(), numbers.end(), fits),
         "2 " + std::string(name) + " of 1 to " + std::to_string(kMostOfAttribute), "others");
  return {numbers[0], numbers[1]};
}

// Appends the height and width of a window's results.
void Slide(const Shape& planes, const Pair& window, const Pair& dilations, const Call& call,
           Shape& result) {
  const auto pads = Pads(call);
  const Pair strides = PairOf(call, "strides");
  for (std::size_t axis = 0; axis < 2; ++axis) {
    const std::int64_t covered = dilations[axis] * (window[axis] - 1) + 1;
    const std::int64_t padded = planes[axis + 2] + pads[axis] + pads[axis + 2];
    Expect(covered <= padded, "a window of at most " + std::to_string(padded),
           std::to_string(covered));
    result.push_back((padded - covered) / strides[axis] + 1);
  }
}

Shape Convolved(const Call& call) {
  const Shape &planes = call.inputs[0], &weight = call.inputs[1];
  Expect(planes.size() == 4 && weight.size() == 4, "planes and weights of 4 dimensions", "others");
  const std::int64_t group = IntOf(call, "group", 1);
  const bool fits = group >= 1 && group <= kMostOfAttribute &&
                    planes[1] == Product(weight[1], group) && weight[0] % group == 0;
  Expect(fits, "channels that fit the weights",
         std::to_string(planes[1]) + " and " + std::to_string(weight[1]) + " x " +
             std::to_string(group));
  if (call.inputs.size() == 3) {
    Expect(call.inputs[2] == Shape{weight[0]}, "a bias for each channel", "another shape");
  }
  const Pair window{weight[2], weight[3]};
  const auto kernel = call.attributes.find("kernel_shape");
  Expect(kernel == call.attributes.end() ||
             kernel->second.numbers == Shape(window.begin(), window.end()),
         "its kernel", "another");
  Shape result{planes[0], weight[0]};
  Slide(planes, window, PairOf(call, "dilations"), call, result);
  return result;
}

Shape Pooled(const Call& call) {
  const Shape& planes = call.inputs[0];
  Expect(planes.size() == 4, "planes of 4 dimensions", std::to_string(planes.size()));
  Required(call, "kernel_shape");
  const Pair window = PairOf(call, "kernel_shape");
  Flag(call, "count_include_pad", false);
  Only(call, "ceil_mode", 0);
  const Pair dilations = PairOf(call, "dilations");
  Expect(std::max(dilations[0], dilations[1]) == 1, "dilations of 1", "others");
  const std::int64_t smallest = std::min(window[0], window[1]);
  const auto pads = Pads(call);
  Expect(*std::max_element(pads.begin(), pads.end()) < smallest,
         "pads below " + std::to_string(smallest), "more");
  Shape result{planes[0], planes[1]};
  Slide(planes, window, {1, 1}, call, result);
  return result;
}

Shape Combined(const Call& call) {
  Shape shape = call.inputs[0];
  for (std::size_t input = 1; input < call.inputs.size(); ++input) {
    shape = Broadcast(shape, call.inputs[input]);
  }
  return shape;
}

using SingleRule = Shape (*)(const Call&);

const std::map<std::string_view, SingleRule>& Rules() {
  static const std::map<std::string_view, SingleRule> rules{
      {"Abs", Same},
      {"Add", Combined},
      {"AveragePool", Pooled},
      {"BatchNormalization", Normalised},
      {"Cast", Cast},
      {"Clip", Limited},
      {"Constant", Constant},
      {"Conv", Convolved},
      {"DequantizeLinear", Quantized},
      {"Div", Combined},
      {"Elu", Same},
      {"Erf", Same},
      {"Exp", Same},
      {"Gelu", Same},
      {"Gemm", GeneralProduct},
      {"GlobalAveragePool", Averaged},
      {"HardSigmoid", Same},
      {"HardSwish", Same},
      {"Identity", Same},
      {"IsNaN", Same},
      {"LayerNormalization", LayerNormalised},
      {"LeakyRelu", Same},
      {"Log", Same},
      {"MatMul", Multiplied},
      {"Max", Combined},
      {"MaxPool", Pooled},
      {"Min", Combined},
      {"Mul", Combined},
      {"Neg", Same},
      {"Pow", Combined},
      {"QuantizeLinear", Quantized},
      {"Reciprocal", Same},
      {"ReduceL2", Reduced},
      {"ReduceMax", Reduced},
      {"ReduceMean", Reduced},
      {"ReduceSum", Reduced},
      {"Relu", Same},
      {"Sigmoid", Same},
      {"Softmax", Softmax},
      {"Softplus", Same},
      {"Sqrt", Same},
      {"Sub", Combined},
      {"Tanh", Same},
      {"Where", Combined},
  };
  return rules;
}

}  // namespace

std::vector<Shape> ResultShapes(const Call& call) {
  const auto moving = RearrangedRules().find(call.kind);
  if (moving != RearrangedRules().end()) return moving->second(call);
  return {Rules().at(call.kind)(call)};
}

std::int64_t WorkOf(const Call& call, const std::vector<Shape>& results) {
  std::int64_t made = 0;
  for (const Shape& shape : results) made = std::min(made + CountOf(shape), kManyNumbers);
  const Shape& first = call.inputs.empty() ? results[0] : call.inputs[0];
  if (call.kind == "Conv") return Product(made, CountOf(call.inputs[1], 1));
  if (call.kind == "AveragePool" || call.kind == "MaxPool") {
    return Product(made, CountOf(call.attributes.at("kernel_shape").numbers));
  }
  if (call.kind == "MatMul") return Product(made, first.back());
  if (call.kind == "Gemm") return Product(made, first[IntOf(call, "transA", 0) == 1 ? 0 : 1]);
  const bool reduces = call.kind.substr(0, 6) == "Reduce" || call.kind == "GlobalAveragePool";
  return reduces ? CountOf(first) : made;
}

}  // namespace patchcore
