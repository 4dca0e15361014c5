// Is this an image of the learned part at all? Two figures that every search gives without cost;
// the twin of patchcore_runtime/scoring/gate.py.
//
// Patch distances and nearest rows -> GateValues -> the reasons why the image is something else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "manifest/manifest.hpp"

namespace patchcore {

// The two figures of one image.
struct GateValues {
  double distance = 0;   // lower median of the patch distances that are not next to 0
  std::size_t rows = 0;  // different rows of the bank that are the nearest of a patch
};

// Measures one image. A distance next to 0 belongs to a patch that the network masks, or that is
// itself a row of the bank, and does not count; its row does.
//   distances  (h, w), of each patch to its nearest row
//   rows       (h, w), these rows
//   counts     (h, w), 1 for each patch of the learned region; empty: all of them count
GateValues MeasureGate(const std::vector<float>& distances, const std::vector<std::int64_t>& rows,
                       const std::vector<std::uint8_t>& counts);

// Why an image does not show the learned part, in words and numbers; empty if it may.
//   gate       none: the artifact has no limits
std::vector<std::string> Strangeness(const std::optional<Gate>& gate, const GateValues& values);

}  // namespace patchcore
