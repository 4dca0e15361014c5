// Held-out scores of good images -> p-value of a score, and a threshold for a false-alarm rate; the
// twin of patchcore_runtime/scoring/thresholds.py, which cites the sources of the rules.
#pragma once

#include <optional>

#include "manifest/manifest.hpp"

namespace patchcore {

// Requested replacements of the artifact's own thresholds; at most one of them.
struct Wanted {
  std::optional<double> threshold;   // of the image score, above 0; the pixel threshold stays
  std::optional<double> target_fpr;  // false-alarm rate, for both thresholds
};

// Share of good images at least as strange as `value`, in (0, 1].
//   scores     image_scores or map_maxima of that calibration
double PValue(const Calibration& calibration, const HeldOut& scores, double value);

// The value that about a share `rate` of good images exceeds.
// Throws ThresholdError: the held-out images are too few for so small a rate.
double ThresholdAt(const Calibration& calibration, const HeldOut& scores, double rate);

// The calibration with the requested thresholds; the bright end of heat maps follows them.
// Throws ThresholdError: both are given, or one is out of range.
Calibration WithThresholds(Calibration calibration, const Wanted& wanted);

}  // namespace patchcore
