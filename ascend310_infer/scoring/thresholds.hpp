// Held-out scores of good pictures -> how strange a score is, and a threshold for a rate; the twin
// of thresholds.py, which says where the rules come from.
#pragma once

#include <optional>

#include "manifest/manifest.hpp"

namespace patchcore {

// What to take in place of the artifact's own thresholds; at most one of them.
struct Wanted {
  std::optional<double> threshold;   // of the image score, above 0; the pixel threshold stays
  std::optional<double> target_fpr;  // false-alarm rate, for both thresholds
};

// Share of good pictures at least as strange as `value`, in (0, 1].
//   scores     image_scores or map_maxima of that calibration
double PValue(const Calibration& calibration, const HeldOut& scores, double value);

// The value that a share of about `rate` of good pictures exceed.
// Throws ThresholdError: the rate is out of reach for so few pictures.
double ThresholdAt(const Calibration& calibration, const HeldOut& scores, double rate);

// The calibration with the thresholds asked for; the heat map's bright end follows them.
// Throws ThresholdError: both are given, or one is out of range.
Calibration WithThresholds(Calibration calibration, const Wanted& wanted);

}  // namespace patchcore
