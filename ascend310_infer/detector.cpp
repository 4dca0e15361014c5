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

bool UsesHnsw(const Artifact& artifact, Search search) {
  return search == Search::kAuto && artifact.manifest().index.kind == IndexKind::kHnsw;
}

BackendOptions ForSearch(BackendOptions options, const Artifact& artifact, Search search) {
  const bool faster = search != Search::kPortable && options.device != Device::kCpu;
  options.search = search == Search::kEngine || (faster && !UsesHnsw(artifact, search));
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

// One picture's layer of a batch: (count, C, h, w) -> (1, C, h, w).
Tensor Slice(const Tensor& batch, std::size_t picture) {
  const std::size_t size = batch.values.size() / static_cast<std::size_t>(batch.shape.front());
  const auto first = batch.values.begin() + static_cast<std::ptrdiff_t>(picture * size);
  Tensor slice{batch.shape, {first, first + static_cast<std::ptrdiff_t>(size)}};
  slice.shape.front() = 1;
  return slice;
}

}  // namespace

Detector::Detector(const Artifact& artifact, const BackendOptions& options, Search search)
    : artifact_(artifact),
      search_(search),
      backend_(MakeBackend(artifact, ForSearch(options, artifact, search))),
      scorer_(artifact.bank(), artifact.manifest().features, artifact.manifest().scoring) {
  const std::size_t threads = std::max<std::size_t>(1, options.threads / options.workers);
  if (UsesHnsw(artifact, search)) {
    hnsw_ = OpenHnswIndex(artifact, threads);
  } else if (!backend_->HasSearch()) {
    index_ = std::make_unique<PortableIndex>(artifact.bank(), artifact.manifest().features,
                                             threads);
  }
}

std::string Detector::KindNote() const {
  const IndexKind kind = manifest().index.kind;
  const bool served = kind == IndexKind::kExact || kind == IndexKind::kHnsw;
  if (served || search_ != Search::kAuto) return {};
  return "index.faiss is not read by this program: all rows of memory_bank.bin are searched "
         "exactly, so map and score may differ from the self-test's by as much as that index's do";
}

Result Detector::Predict(const Input& input) {
  return std::move(PredictBatch({&input}).front());
}

std::vector<Result> Detector::PredictBatch(const std::vector<const Input*>& inputs) {
  if (inputs.empty()) return {};
  Stopwatch watch;
  const Calibration& calibration = manifest().calibration;
  std::vector<Result> results(inputs.size());
  const auto [all2, all3] = Features(inputs);
  const double features_ms = watch.Lap() / static_cast<double>(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    Result& result = results[i];
    const Tensor layer2 = Slice(all2, i);
    const Tensor layer3 = Slice(all3, i);
    const NearestRows nearest = Nearest(layer2, layer3);
    result.timings.features_ms = features_ms;
    result.timings.search_ms = watch.Lap();
    PatchScores scores = scorer_.Score(layer2, layer3, nearest);
    result.score = scores.score;
    result.p_value = PValue(calibration, calibration.image_scores, result.score);
    result.threshold = calibration.image_threshold;
    result.is_anomalous = result.score > result.threshold;
    result.anomaly_map = std::move(scores.anomaly_map);
    result.peak = Peak(result.anomaly_map, manifest().preprocess.width, inputs[i]->placement);
    result.timings.score_ms = watch.Lap();
  }
  return results;
}

std::pair<Tensor, Tensor> Detector::Features(const std::vector<const Input*>& inputs) {
  std::vector<std::uint8_t> images;  // (count, H, W, 3)
  images.reserve(inputs.size() * inputs.front()->pixels.size());
  for (const Input* input : inputs) {
    images.insert(images.end(), input->pixels.begin(), input->pixels.end());
  }
  const auto turn = EngineTurn();
  return backend_->Features(images.data(), inputs.size());
}

std::unique_lock<std::mutex> Detector::EngineTurn() {
  if (backend_->RunsConcurrently()) return {};
  return std::unique_lock<std::mutex>(engine_turn_);
}

NearestRows Detector::Nearest(const Tensor& layer2, const Tensor& layer3) {
  const auto by_engine = [&] {
    const auto turn = EngineTurn();
    return backend_->Nearest(layer2, layer3);
  };
  NearestRows nearest = hnsw_    ? hnsw_->Nearest(layer2, layer3)
                        : index_ ? index_->Nearest(layer2, layer3)
                                 : by_engine();
  const auto finite = [](float distance) { return std::isfinite(distance); };
  if (!std::all_of(nearest.distances.begin(), nearest.distances.end(), finite)) {
    throw BackendError(backend_->Name() +
                       ": expected finite features, got others; fp16 may have overflowed, or the "
                       "graph belongs to another artifact: run --selftest");
  }
  return nearest;
}

}  // namespace patchcore
