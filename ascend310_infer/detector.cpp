#include "detector.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "errors.hpp"
#include "thresholds.hpp"

namespace patchcore {
namespace {

// Milliseconds since the last call, or since it was made.
class Stopwatch {
 public:
  double Lap() {
    const Clock::time_point now = Clock::now();
    const double lap_ms = std::chrono::duration<double, std::milli>(now - last_).count();
    last_ = now;
    return lap_ms;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point last_ = Clock::now();
};

BackendOptions ForSearch(BackendOptions options, Search search) {
  options.search = search == Search::kEngine;
  return options;
}

// y, x of the map's maximum, in pixels of the photograph as shown.
std::array<std::size_t, 2> Peak(const std::vector<float>& map, std::size_t width,
                                const Placement& place) {
  const auto at = static_cast<std::size_t>(std::max_element(map.begin(), map.end()) - map.begin());
  const auto on_photo = [](std::size_t corner, std::size_t pixel, std::size_t photo,
                           std::size_t resized) {
    const double centre = static_cast<double>(corner + pixel) + 0.5;
    return static_cast<std::size_t>(centre * static_cast<double>(photo) /
                                    static_cast<double>(resized));
  };
  return {on_photo(place.top, at / width, place.photo_height, place.resized_height),
          on_photo(place.left, at % width, place.photo_width, place.resized_width)};
}

}  // namespace

Detector::Detector(const Artifact& artifact, const BackendOptions& options, Search search)
    : artifact_(artifact),
      backend_(MakeBackend(artifact, ForSearch(options, search))),
      scorer_(artifact.bank(), artifact.manifest().features, artifact.manifest().scoring) {
  if (search == Search::kEngine && backend_->HasSearch()) return;
  index_ = std::make_unique<PortableIndex>(artifact.bank(), artifact.manifest().features,
                                           options.threads);
}

Result Detector::Predict(const Input& input) {
  Stopwatch watch;
  Result result;
  const auto [layer2, layer3] = backend_->Features(input.pixels.data(), 1);
  result.timings.features_ms = watch.Lap();
  const NearestRows nearest = Nearest(layer2, layer3);
  result.timings.search_ms = watch.Lap();
  PatchScores scores = scorer_.Score(layer2, layer3, nearest);
  result.score = scores.score;
  const Calibration& calibration = manifest().calibration;
  result.p_value = PValue(calibration, calibration.image_scores, result.score);
  result.threshold = calibration.image_threshold;
  result.is_anomalous = result.score > result.threshold;
  result.anomaly_map = std::move(scores.anomaly_map);
  result.peak = Peak(result.anomaly_map, manifest().preprocess.width, input.placement);
  result.timings.score_ms = watch.Lap();
  return result;
}

NearestRows Detector::Nearest(const Tensor& layer2, const Tensor& layer3) {
  NearestRows nearest =
      index_ ? index_->Nearest(layer2, layer3) : backend_->Nearest(layer2, layer3);
  const auto finite = [](float distance) { return std::isfinite(distance); };
  if (!std::all_of(nearest.distances.begin(), nearest.distances.end(), finite)) {
    throw BackendError(backend_->Name() +
                       ": expected finite features, got others; fp16 may have overflowed, or the "
                       "graph belongs to another artifact: run --selftest");
  }
  return nearest;
}

}  // namespace patchcore
