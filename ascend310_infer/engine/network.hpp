// Refuse a feature network that is not made of the workshop's operators, or that is too large; the
// twin of patchcore_runtime/engine/network.py.
//
// operators.csv lists the operators and their attributes. All of them have results whose shapes
// follow from the shapes of their inputs, so the size and the work of a network are known before an
// engine opens it.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "engine/onnx_model.hpp"
#include "engine/operator_shapes.hpp"

namespace patchcore {

// The end of a network: its name, and its shape without the leading B.
using NetworkEnd = std::pair<std::string, Shape>;

// The input `images`, then the one to four outputs in the order of the file.
// Throws ArtifactError: an operator, attribute, type or shape is not one that the workshop writes,
// or the results or products are too many.
std::vector<NetworkEnd> CheckNetwork(const std::filesystem::path& path, const OnnxModel& model);

}  // namespace patchcore
