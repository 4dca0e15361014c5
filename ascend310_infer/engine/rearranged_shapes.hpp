// Shapes of operators that move numbers without computing: Reshape, Slice, Gather and others; the
// twin of patchcore_runtime/engine/rearranged_shapes.py.
//
// The new shape, places or axes are int64 constants, or follow from the batch (whole_numbers.hpp).
#pragma once

#include <map>
#include <string_view>
#include <vector>

#include "engine/shape_checks.hpp"

namespace patchcore {

// The places of a slice along one axis.
struct SlicePlaces {
  std::int64_t first = 0, step = 1, count = 0;
};

// The places of a Slice, by axis. Throws ShapeError.
std::map<std::size_t, SlicePlaces> Slices(const Call& call);

// The sides that a Shape asks for. Throws ShapeError.
Shape AskedSides(const Call& call);

using Rule = std::vector<Shape> (*)(const Call&);

// The rule of each operator of this kind.
const std::map<std::string_view, Rule>& RearrangedRules();

}  // namespace patchcore
