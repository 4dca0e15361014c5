// What the rules of all operators share: their arguments, their refusal, and axes; the twin of
// patchcore_runtime/engine/shape_checks.py.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace patchcore {

using Shape = std::vector<std::int64_t>;

// The largest count that is told apart; larger ones become it.
inline constexpr std::int64_t kManyNumbers = std::int64_t{1} << 56;

inline constexpr std::int64_t kMostOfAttribute = 65536;  // of an attribute's number
inline constexpr std::int64_t kLongestSide = std::int64_t{1} << 31;
inline constexpr std::size_t kMostDimensions = 8;

// An attribute's value; its kind in operators.csv decides which member it is.
struct AttributeValue {
  std::int64_t number = 0;  // of int
  Shape numbers;            // of ints; of tensor its shape
  std::string_view text;
};
using AttributeValues = std::map<std::string_view, AttributeValue>;

// The numbers of an int64 tensor, row-major; none of other types.
using WholeNumbers = std::optional<std::vector<std::int64_t>>;

// A node: the shapes of its inputs, its attributes, and the int64 inputs' numbers.
struct Call {
  std::string_view kind;  // an operator of operators.csv
  std::vector<Shape> inputs;
  AttributeValues attributes;
  std::vector<WholeNumbers> numbers;  // as many as inputs
  std::size_t outputs = 1;
};

// A node's inputs or attributes do not fit; the words are those of a message.
class ShapeError : public std::runtime_error {
 public:
  ShapeError(const std::string& expected, std::string got)
      : std::runtime_error(expected), got(std::move(got)) {}
  std::string got;
};

// Throws ShapeError if a condition does not hold.
void Expect(bool holds, const std::string& expected, const std::string& got);

// An attribute that the node must have.
const AttributeValue& Required(const Call& call, std::string_view name);

// An attribute of type int, or its default.
std::int64_t IntOf(const Call& call, std::string_view name, std::int64_t otherwise);

// An attribute that is 0 or 1.
bool Flag(const Call& call, const std::string& name, bool otherwise);

// Refuses any other value of an attribute.
void Only(const Call& call, const std::string& name, std::int64_t value);

// An axis from 0; negative ones count from the end.
std::size_t AxisOf(std::int64_t axis, std::size_t length);

// Axes from 0, which must differ.
std::vector<std::size_t> DistinctAxes(const Shape& axes, std::size_t length);

// The axes of an attribute or of the second input, of which one must be given.
std::vector<std::size_t> AxesOf(const Call& call, std::size_t length);

// The numbers of an int64 input; none if they are not known.
const std::vector<std::int64_t>& NumbersOf(const Call& call, std::size_t input);

// How many numbers a shape has, at most kManyNumbers.
std::int64_t CountOf(const Shape& shape, std::size_t from = 0);

// The smaller of a product and kManyNumbers.
std::int64_t Product(std::int64_t left, std::int64_t right);

// The shape of two tensors that are combined number by number.
Shape Broadcast(Shape left, Shape right);

}  // namespace patchcore
