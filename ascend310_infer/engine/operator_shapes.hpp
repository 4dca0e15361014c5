// Shapes and products of the operators of a feature network; the twin of
// patchcore_runtime/engine/operator_shapes.py.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace patchcore {

using Shape = std::vector<std::int64_t>;

// The largest count that is told apart; larger ones become it.
inline constexpr std::int64_t kManyNumbers = std::int64_t{1} << 56;

// An attribute's value; its kind in operators.csv decides which member it is.
struct AttributeValue {
  std::int64_t number = 0;  // of int
  Shape numbers;            // of ints; of tensor its shape
  std::string_view text;
};
using AttributeValues = std::map<std::string_view, AttributeValue>;

// A node's inputs or attributes do not fit; the words are those of a message.
class ShapeError : public std::runtime_error {
 public:
  ShapeError(const std::string& expected, std::string got)
      : std::runtime_error(expected), got(std::move(got)) {}
  std::string got;
};

// The shape of a node's result.
//   kind     an operator of operators.csv
//   inputs   shapes of its inputs, as many as the table says
// Throws ShapeError.
Shape ResultShape(std::string_view kind, const std::vector<Shape>& inputs,
                  const AttributeValues& attributes);

// How many numbers a shape has, at most kManyNumbers.
std::int64_t CountOf(const Shape& shape, std::size_t from = 0);

// The smaller of a product and kManyNumbers.
std::int64_t Product(std::int64_t left, std::int64_t right);

// The number of products or comparisons of a node with that result.
std::int64_t WorkOf(std::string_view kind, const std::vector<Shape>& inputs,
                    const AttributeValues& attributes, const Shape& result);

}  // namespace patchcore
