#include "engine/rearranged_shapes.hpp"

#include <algorithm>
#include <numeric>
#include <set>

namespace patchcore {
namespace {

constexpr std::size_t kMostParts = 64;

using Shapes = std::vector<Shape>;

bool IsSide(std::int64_t side) { return side > 0 && side < kLongestSide; }

SlicePlaces Range(std::int64_t side, std::int64_t start, std::int64_t end, std::int64_t step) {
  Expect(step != 0 && step <= kMostOfAttribute && step >= -kMostOfAttribute,
         "steps of 1 to " + std::to_string(kMostOfAttribute), "another");
  const std::int64_t low = step > 0 ? 0 : -1, high = step > 0 ? side : side - 1;
  const auto inside = [&](std::int64_t place) {
    return std::clamp(place < 0 ? place + side : place, low, high);
  };
  const std::int64_t first = std::max(inside(start), std::int64_t{0}), last = inside(end);
  const std::int64_t way = step > 0 ? last - first : first - last;
  const std::int64_t stride = step > 0 ? step : -step;
  const std::int64_t count = way <= 0 ? 0 : (way + stride - 1) / stride;
  Expect(count > 0, "a slice that is not empty", "an empty one");
  return {first, step, count};
}

Shapes Sliced(const Call& call) {
  Shape shape = call.inputs[0];
  for (const auto& [axis, places] : Slices(call)) shape[axis] = places.count;
  return {shape};
}

Shapes Reshaped(const Call& call) {
  const Shape &shape = call.inputs[0], &wanted = NumbersOf(call, 1);
  const bool keeps = !Flag(call, "allowzero", false);
  Expect(call.inputs[1].size() == 1 && wanted.size() <= kMostDimensions, "up to 8 sides", "others");
  Shape sides;
  for (std::size_t axis = 0; axis < wanted.size(); ++axis) {
    if (wanted[axis] == 0) {
      Expect(keeps && axis < shape.size(), "a side of the input for 0", "none");
      sides.push_back(shape[axis]);
    } else {
      Expect(wanted[axis] == -1 || IsSide(wanted[axis]), "sides above 0, or -1", "another");
      sides.push_back(wanted[axis]);
    }
  }
  const std::int64_t count = CountOf(shape);
  const auto open = std::find(sides.begin(), sides.end(), -1);
  if (open != sides.end()) {
    Expect(std::count(sides.begin(), sides.end(), -1) == 1, "one side of -1", "several");
    *open = 1;
    const std::int64_t known = CountOf(sides);
    Expect(count % known == 0, "sides that divide " + std::to_string(count), std::to_string(known));
    *open = count / known;
  }
  Expect(CountOf(sides) == count, "a shape of " + std::to_string(count) + " numbers",
         std::to_string(CountOf(sides)));
  return {sides};
}

Shapes Expanded(const Call& call) {
  const Shape& wanted = NumbersOf(call, 1);
  Expect(call.inputs[1].size() == 1 && std::all_of(wanted.begin(), wanted.end(), IsSide) &&
             wanted.size() <= kMostDimensions,
         "up to 8 sides above 0", "others");
  return {Broadcast(call.inputs[0], wanted)};
}

Shapes Gathered(const Call& call) {
  const Shape &shape = call.inputs[0], &indices = call.inputs[1];
  const std::size_t axis = AxisOf(IntOf(call, "axis", 0), shape.size());
  const auto inside = [&](std::int64_t place) {
    return -shape[axis] <= place && place < shape[axis];
  };
  const Shape& places = NumbersOf(call, 1);
  Expect(std::all_of(places.begin(), places.end(), inside),
         "places of " + std::to_string(shape[axis]), "others");
  Shape result(shape.begin(), shape.begin() + static_cast<std::ptrdiff_t>(axis));
  result.insert(result.end(), indices.begin(), indices.end());
  result.insert(result.end(), shape.begin() + static_cast<std::ptrdiff_t>(axis) + 1, shape.end());
  return {result};
}

// The sides of a Split's parts along its axis.
Shape SplitSizes(const Call& call, std::int64_t side) {
  const auto parts = static_cast<std::int64_t>(call.outputs);
  Expect(IntOf(call, "num_outputs", parts) == parts, std::to_string(parts) + " parts", "others");
  const auto attribute = call.attributes.find("split");
  const bool listed = attribute != call.attributes.end(), given = call.inputs.size() > 1;
  Expect(!listed || !given, "sizes of the parts once", "twice");
  Shape sizes;
  if (listed || given) {
    sizes = given ? NumbersOf(call, 1) : attribute->second.numbers;
  } else {
    Expect(side % parts == 0, std::to_string(parts) + " equal parts",
           std::to_string(side) + " numbers");
    sizes.assign(call.outputs, side / parts);
  }
  bool fits = sizes.size() == call.outputs;
  std::int64_t rest = side;
  for (const std::int64_t size : sizes) {
    fits = fits && size > 0 && size <= rest;
    if (fits) rest -= size;
  }
  Expect(fits && rest == 0, std::to_string(parts) + " parts of " + std::to_string(side), "others");
  return sizes;
}

Shapes Split(const Call& call) {
  Expect(call.outputs <= kMostParts, "at most " + std::to_string(kMostParts) + " parts",
         std::to_string(call.outputs));
  const std::size_t axis = AxisOf(IntOf(call, "axis", 0), call.inputs[0].size());
  Shapes shapes;
  for (const std::int64_t size : SplitSizes(call, call.inputs[0][axis])) {
    shapes.push_back(call.inputs[0]);
    shapes.back()[axis] = size;
  }
  return shapes;
}

Shapes Squeezed(const Call& call) {
  const Shape& shape = call.inputs[0];
  const auto axes = AxesOf(call, shape.size());
  Expect(std::all_of(axes.begin(), axes.end(), [&](std::size_t axis) { return shape[axis] == 1; }),
         "axes of one number", "others");
  Shape result;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (std::find(axes.begin(), axes.end(), axis) == axes.end()) result.push_back(shape[axis]);
  }
  return {result};
}

Shapes Unsqueezed(const Call& call) {
  const Shape& shape = call.inputs[0];
  const auto attribute = call.attributes.find("axes");
  std::size_t more = attribute == call.attributes.end() ? 0 : attribute->second.numbers.size();
  if (call.inputs.size() > 1) more = NumbersOf(call, 1).size();
  const std::size_t length = shape.size() + more;
  Expect(length <= kMostDimensions, "up to 8 dimensions", "more");
  const auto axes = AxesOf(call, length);
  Shape result;
  std::size_t next = 0;
  for (std::size_t axis = 0; axis < length; ++axis) {
    const bool added = std::find(axes.begin(), axes.end(), axis) != axes.end();
    result.push_back(added ? 1 : shape[next++]);
  }
  return {result};
}

Shapes Padded(const Call& call) {
  const Shape &shape = call.inputs[0], &pads = NumbersOf(call, 1);
  const auto given = call.attributes.find("mode");
  const std::string_view mode = given == call.attributes.end() ? "constant" : given->second.text;
  Expect(mode == "constant" || mode == "edge" || mode == "reflect",
         "a mode constant, edge or reflect", "another");
  const auto fits = [](std::int64_t pad) { return pad >= 0 && pad <= kMostOfAttribute; };
  Expect(pads.size() == 2 * shape.size() && std::all_of(pads.begin(), pads.end(), fits),
         "two pads of 0 to " + std::to_string(kMostOfAttribute) + " for each side", "others");
  if (call.inputs.size() == 3) {
    Expect(call.inputs[2].empty() || call.inputs[2] == Shape{1}, "one number around", "several");
  }
  Shape result = shape;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    const std::int64_t before = pads[axis], behind = pads[axis + shape.size()];
    Expect(mode != "reflect" || std::max(before, behind) < shape[axis], "pads below the side",
           "more");
    result[axis] += before + behind;
  }
  return {result};
}

Shapes Flat(const Call& call) {
  const Shape& shape = call.inputs[0];
  const auto length = static_cast<std::int64_t>(shape.size());
  std::int64_t axis = IntOf(call, "axis", 1);
  Expect(-length <= axis && axis <= length, "an axis of " + std::to_string(length),
         std::to_string(axis));
  axis += axis < 0 ? length : 0;
  const auto middle = shape.begin() + static_cast<std::ptrdiff_t>(axis);
  return {{CountOf(Shape(shape.begin(), middle)), CountOf(Shape(middle, shape.end()))}};
}

Shapes Turned(const Call& call) {
  const Shape& order = Required(call, "perm").numbers;
  Shape sorted = order, all(call.inputs[0].size());
  std::sort(sorted.begin(), sorted.end());
  std::iota(all.begin(), all.end(), 0);
  Expect(sorted == all, "perm of all axes", "another");
  Shape turned;
  for (const std::int64_t axis : order) {
    turned.push_back(call.inputs[0][static_cast<std::size_t>(axis)]);
  }
  return {turned};
}

Shapes Joined(const Call& call) {
  Shape joined = call.inputs[0];
  const std::size_t axis = AxisOf(Required(call, "axis").number, joined.size());
  for (std::size_t input = 1; input < call.inputs.size(); ++input) {
    const Shape& other = call.inputs[input];
    bool same = other.size() == joined.size();
    for (std::size_t side = 0; same && side < joined.size(); ++side) {
      same = side == axis || other[side] == joined[side];
    }
    Expect(same, "shapes that differ along the axis only", "others");
    joined[axis] = std::min(joined[axis] + other[axis], kManyNumbers);
  }
  return {joined};
}

Shapes Length(const Call& call) { return {{static_cast<std::int64_t>(AskedSides(call).size())}}; }

}  // namespace

std::map<std::size_t, SlicePlaces> Slices(const Call& call) {
  const Shape& shape = call.inputs[0];
  const Shape &starts = NumbersOf(call, 1), &ends = NumbersOf(call, 2);
  Shape axes(starts.size()), steps(starts.size(), 1);
  std::iota(axes.begin(), axes.end(), 0);
  if (call.inputs.size() > 3) axes = NumbersOf(call, 3);
  if (call.inputs.size() > 4) steps = NumbersOf(call, 4);
  Expect(
      starts.size() == ends.size() && starts.size() == axes.size() && starts.size() == steps.size(),
      "as many starts, ends, axes and steps", "others");
  const auto places = DistinctAxes(axes, shape.size());
  std::map<std::size_t, SlicePlaces> found;
  for (std::size_t i = 0; i < places.size(); ++i) {
    found[places[i]] = Range(shape[places[i]], starts[i], ends[i], steps[i]);
  }
  return found;
}

Shape AskedSides(const Call& call) {
  const Shape& shape = call.inputs[0];
  const auto length = static_cast<std::int64_t>(shape.size());
  const auto inside = [&](std::int64_t place) {
    return std::clamp(place < 0 ? place + length : place, std::int64_t{0}, length);
  };
  const std::int64_t first = inside(IntOf(call, "start", 0));
  const std::int64_t last = inside(IntOf(call, "end", length));
  Expect(first < last, "one side or more", "none");
  return Shape(shape.begin() + first, shape.begin() + last);
}

const std::map<std::string_view, Rule>& RearrangedRules() {
  static const std::map<std::string_view, Rule> rules{
      {"Concat", Joined}, {"Expand", Expanded},  {"Flatten", Flat},     {"Gather", Gathered},
      {"Pad", Padded},    {"Reshape", Reshaped}, {"Shape", Length},     {"Slice", Sliced},
      {"Split", Split},   {"Squeeze", Squeezed}, {"Transpose", Turned}, {"Unsqueeze", Unsqueezed},
  };
  return rules;
}

}  // namespace patchcore
