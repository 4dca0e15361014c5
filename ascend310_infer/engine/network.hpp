// Refuse a feature network that is not made of the workshop's operators, or that is too large; the
// twin of patchcore_runtime/engine/network.py.
//
// operators.csv lists the operators and their attributes. All of them have results whose shapes
// follow from the shapes of their inputs, so the size and the work of a network are known before an
// engine opens it.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "engine/onnx_model.hpp"
#include "engine/operator_shapes.hpp"

namespace patchcore {

// Shapes of `images`, `layer2` and `layer3`, each without the leading B.
// Throws ArtifactError: an operator, attribute, type or shape is not one that the workshop writes,
// or the results or products are too many.
std::map<std::string, Shape> CheckNetwork(const std::filesystem::path& path,
                                          const OnnxModel& model);

}  // namespace patchcore
