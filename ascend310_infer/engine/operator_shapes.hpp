// Shapes and products of the operators of a feature network; the twin of
// patchcore_runtime/engine/operator_shapes.py.
#pragma once

#include "engine/shape_checks.hpp"

namespace patchcore {

// The shapes of a node's results; one, except for a Split. Throws ShapeError.
std::vector<Shape> ResultShapes(const Call& call);

// The number of products, comparisons or other results of a node with these results.
std::int64_t WorkOf(const Call& call, const std::vector<Shape>& results);

}  // namespace patchcore
