// Laws of thresholds: p-values and thresholds are each other's inverse, as in Python.
#include "scoring/thresholds.hpp"

#include <cmath>

#include "artifact/folder.hpp"
#include "errors.hpp"
#include "tests/support/catch.hpp"

namespace {

using patchcore::Calibration;
using patchcore::PValue;
using patchcore::ThresholdAt;
using patchcore::ThresholdError;
using patchcore::WithThresholds;

Calibration Tiny() {
  return patchcore::Artifact::Open(std::filesystem::path(PATCHCORE_TINY)).manifest().calibration;
}

}  // namespace

TEST_CASE("A value lies above the threshold of a rate just where its p-value is at most the rate") {
  const Calibration calibration = Tiny();
  for (const auto* scores : {&calibration.image_scores, &calibration.map_maxima}) {
    for (const double rate : {0.9, 0.5, 0.3, 0.2, 0.1, 0.01, 0.001}) {
      const double threshold = ThresholdAt(calibration, *scores, rate);
      CAPTURE(rate, threshold);
      CHECK(PValue(calibration, *scores, threshold * (1 + 1e-9)) <= rate * (1 + 1e-6));
      CHECK(PValue(calibration, *scores, threshold * (1 - 1e-9)) >= rate * (1 - 1e-6));
    }
  }
}

TEST_CASE("The fitted rate gives the stored thresholds again") {
  const Calibration calibration = Tiny();
  const Calibration again = WithThresholds(calibration, {{}, calibration.target_fpr});
  CHECK(std::abs(again.image_threshold / calibration.image_threshold - 1) < 1e-12);
  CHECK(std::abs(again.pixel_threshold / calibration.pixel_threshold - 1) < 1e-12);
  CHECK(std::abs(again.heatmap.high / calibration.heatmap.high - 1) < 1e-12);
}

TEST_CASE("Without held-out scores every p-value is 1 and no rate has a threshold") {
  Calibration calibration = Tiny();
  calibration.images = 0;
  calibration.ranks.clear();
  calibration.image_scores = {1, {}, {0, 1, 1, 0}};
  for (const double value : {0.0, 1.0, 1e9}) {
    CHECK(PValue(calibration, calibration.image_scores, value) == 1);
  }
  CHECK_THROWS_AS(WithThresholds(calibration, {{}, 0.5}), ThresholdError);
  CHECK(WithThresholds(calibration, {2.0, {}}).image_threshold == 2);
}

TEST_CASE("Thresholds out of range, or two at once, are refused") {
  const Calibration calibration = Tiny();
  for (const double rate : {0.0, -1.0, 1.0, 1e-9, std::nan("")}) {
    CHECK_THROWS_AS(WithThresholds(calibration, {{}, rate}), ThresholdError);
  }
  for (const double threshold : {0.0, -1.0, HUGE_VAL, std::nan("")}) {
    CHECK_THROWS_AS(WithThresholds(calibration, {threshold, {}}), ThresholdError);
  }
  CHECK_THROWS_AS(WithThresholds(calibration, {1.0, 0.1}), ThresholdError);
}
