#include "scoring/thresholds.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "errors.hpp"
#include "messages.hpp"

namespace patchcore {
namespace {

constexpr double kMinBeyond = 3;           // with fewer larger scores, the tail decides
constexpr double kMaxExtrapolation = 100;  // times smaller than 1/(n + 1)
constexpr double kExponential = 1e-9;      // shapes below are the exponential

// The smallest false-alarm rate that so many held-out scores support.
double SmallestRate(double count) { return 1 / (kMaxExtrapolation * (count + 1)); }

double TailShare(const Tail& tail, double value) {
  const double reach = std::max(0.0, value - tail.level) / tail.scale;
  const double share = std::abs(tail.shape) < kExponential
                           ? std::exp(-std::min(reach, 700.0))
                           : std::pow(std::max(0.0, 1 + tail.shape * reach), -1 / tail.shape);
  return std::max(tail.share * share, 5e-324);
}

double TailQuantile(const Tail& tail, double rate) {
  const double depth = std::log(tail.share / rate);
  if (depth <= 0) return tail.level;
  const double stretch =
      std::abs(tail.shape) < kExponential ? depth : std::expm1(tail.shape * depth) / tail.shape;
  return tail.level + tail.scale * stretch;
}

// The score of a rank, or of the next stored one above it.
double Stored(const Calibration& calibration, const HeldOut& scores, double rank) {
  const auto first = calibration.ranks.begin();
  const auto last = calibration.ranks.end();
  const auto wanted = static_cast<std::int64_t>(rank);
  return scores.values[static_cast<std::size_t>(std::lower_bound(first, last, wanted) - first)];
}

void CheckRate(double count, double rate) {
  if (count == 0) {
    throw ThresholdError(
        "target false-alarm rate: expected an artifact with held-out scores, got one that has "
        "thresholds alone, imported or learned from one image; choose a threshold instead");
  }
  const double smallest = SmallestRate(count);
  if (smallest <= rate && rate < 1) return;
  throw ThresholdError("target false-alarm rate: expected " + NumberText(smallest, 2) +
                       " to below 1, got " + NumberText(rate, 4) +
                       "; the artifact was calibrated on " + NumberText(count, 10) +
                       " images, which cannot support a rarer rate; choose a rate in this range, "
                       "or fit with more images");
}

}  // namespace

double PValue(const Calibration& calibration, const HeldOut& scores, double value) {
  const auto count = static_cast<double>(calibration.images);
  if (calibration.images == 0) return 1;  // no held-out score says that it is rare
  const auto below =
      std::lower_bound(scores.values.begin(), scores.values.end(), value) - scores.values.begin();
  const double passed =
      below > 0 ? static_cast<double>(calibration.ranks[static_cast<std::size_t>(below - 1)]) : 0;
  const double at_least = count - passed + 1;
  if (at_least >= kMinBeyond) return at_least / (count + 1);
  const double share = std::min({1.0, kMinBeyond / (count + 1), TailShare(scores.tail, value)});
  return std::max(share, SmallestRate(count));
}

double ThresholdAt(const Calibration& calibration, const HeldOut& scores, double rate) {
  const auto count = static_cast<double>(calibration.images);
  CheckRate(count, rate);
  if ((count + 1) * rate < kMinBeyond - 1e-9) {
    const double rank = std::max(1.0, std::min(count, count + 2 - kMinBeyond));
    return std::max(Stored(calibration, scores, rank), TailQuantile(scores.tail, rate));
  }
  const double rank = std::max(1.0, std::ceil((count + 1) * (1 - rate) - 1e-9));
  return Stored(calibration, scores, rank);
}

Calibration WithThresholds(Calibration calibration, const Wanted& wanted) {
  if (wanted.threshold && wanted.target_fpr) {
    throw ThresholdError("threshold and target false-alarm rate: expected one of them, got both");
  }
  if (wanted.threshold) {
    if (!(*wanted.threshold > 0) || std::isinf(*wanted.threshold)) {
      throw ThresholdError("threshold: expected a number above 0, got " +
                           NumberText(*wanted.threshold, 4));
    }
    calibration.image_threshold = *wanted.threshold;
  }
  if (wanted.target_fpr) {
    calibration.target_fpr = *wanted.target_fpr;
    calibration.image_threshold =
        ThresholdAt(calibration, calibration.image_scores, *wanted.target_fpr);
    const double low = calibration.heatmap.low;
    const double pixel = ThresholdAt(calibration, calibration.map_maxima, *wanted.target_fpr);
    calibration.pixel_threshold = std::max(pixel, low + 1e-6 * std::max(1.0, std::abs(low)));
    calibration.heatmap.high = 2 * calibration.pixel_threshold - low;
  }
  return calibration;
}

}  // namespace patchcore
