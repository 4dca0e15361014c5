#include "engine/shape_checks.hpp"

#include <algorithm>
#include <set>

namespace patchcore {

void Expect(bool holds, const std::string& expected, const std::string& got) {
  if (!holds) throw ShapeError(expected, got);
}

const AttributeValue& Required(const Call& call, std::string_view name) {
  const auto found = call.attributes.find(name);
  Expect(found != call.attributes.end(), std::string(name), "none");
  return found->second;
}

std::int64_t IntOf(const Call& call, std::string_view name, std::int64_t otherwise) {
  const auto found = call.attributes.find(name);
  return found == call.attributes.end() ? otherwise : found->second.number;
}

bool Flag(const Call& call, const std::string& name, bool otherwise) {
  const std::int64_t value = IntOf(call, name, otherwise ? 1 : 0);
  Expect(value == 0 || value == 1, name + " 0 or 1", "another");
  return value == 1;
}

void Only(const Call& call, const std::string& name, std::int64_t value) {
  Expect(IntOf(call, name, value) == value, name + " " + std::to_string(value), "another");
}

std::size_t AxisOf(std::int64_t axis, std::size_t length) {
  const auto sides = static_cast<std::int64_t>(length);
  Expect(-sides <= axis && axis < sides, "an axis of " + std::to_string(length),
         std::to_string(axis));
  return static_cast<std::size_t>(axis < 0 ? axis + sides : axis);
}

std::vector<std::size_t> DistinctAxes(const Shape& axes, std::size_t length) {
  std::vector<std::size_t> found;
  for (const std::int64_t axis : axes) found.push_back(AxisOf(axis, length));
  const std::set<std::size_t> different(found.begin(), found.end());
  Expect(different.size() == found.size(), "axes that differ", "one twice");
  return found;
}

std::vector<std::size_t> AxesOf(const Call& call, std::size_t length) {
  const auto attribute = call.attributes.find("axes");
  const bool given = call.inputs.size() > 1;
  Expect(given != (attribute != call.attributes.end()), "axes once", "none or twice");
  return DistinctAxes(given ? NumbersOf(call, 1) : attribute->second.numbers, length);
}

const std::vector<std::int64_t>& NumbersOf(const Call& call, std::size_t input) {
  static const std::vector<std::int64_t> none;
  const WholeNumbers& numbers = call.numbers[input];
  return numbers ? *numbers : none;
}

std::int64_t Product(std::int64_t left, std::int64_t right) {
  return left != 0 && right > kManyNumbers / left ? kManyNumbers : left * right;
}

std::int64_t CountOf(const Shape& shape, std::size_t from) {
  std::int64_t count = 1;
  for (std::size_t side = from; side < shape.size(); ++side) count = Product(count, shape[side]);
  return count;
}

Shape Broadcast(Shape left, Shape right) {
  left.insert(left.begin(), std::max(left.size(), right.size()) - left.size(), 1);
  right.insert(right.begin(), left.size() - right.size(), 1);
  for (std::size_t side = 0; side < left.size(); ++side) {
    const bool fits = left[side] == right[side] || left[side] == 1 || right[side] == 1;
    Expect(fits, "shapes that can be combined", "others");
    left[side] = std::max(left[side], right[side]);
  }
  return left;
}

}  // namespace patchcore
