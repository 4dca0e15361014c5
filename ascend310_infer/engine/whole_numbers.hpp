// The int64 numbers that a node makes of other int64 numbers, or of a shape; the twin of
// patchcore_runtime/engine/whole_numbers.py.
//
// Exported networks compute shapes: the batch of one tensor becomes a side of another. A reader
// that knows the batch knows these numbers, too, and needs no arithmetic for them.
#pragma once

#include "engine/shape_checks.hpp"

namespace patchcore {

inline constexpr std::int64_t kInt64 = 7;         // TensorProto.DataType
inline constexpr std::int64_t kMostWhole = 4096;  // int64 numbers of a tensor

// The numbers of a node's result; none if the result is not int64.
//   call   a node whose shapes fit
// Throws ShapeError: the node takes int64 numbers that it may not compute with.
WholeNumbers MadeNumbers(const Call& call);

}  // namespace patchcore
