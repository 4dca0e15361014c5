// Input -> score, verdict and anomaly map, with everything an artifact says; twin of detector.py.
//
// features -> exact search -> image score and map. PatchCore, Roth et al. 2021 (arXiv:2106.08265).
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "artifact.hpp"
#include "backend.hpp"
#include "index.hpp"
#include "preprocess.hpp"
#include "scoring.hpp"

namespace patchcore {

enum class Search { kEngine, kPortable };

// How long the stages of one picture took.
struct Timings {
  double features_ms = 0;
  double search_ms = 0;
  double score_ms = 0;
};

// What a detector says of one picture. Larger is stranger; scores are never clamped.
struct Result {
  double score = 0;
  double p_value = 0;    // share of good pictures at least as strange, from held-out scores
  double threshold = 0;  // of `score`
  bool is_anomalous = false;
  std::array<std::size_t, 2> peak{};  // y, x of the map's maximum, on the photograph as shown
  std::vector<float> anomaly_map;     // (H, W), row-major, input geometry
  Timings timings;
};

// An artifact, loaded and ready. Not safe to share between threads.
class Detector {
 public:
  // Takes the engine's own search where it has one and `search` wants it, else the portable one.
  // Throws ArtifactError, BackendError as MakeBackend does.
  Detector(const Artifact& artifact, const BackendOptions& options, Search search);

  // Scores one preprocessed picture.
  // Throws BackendError: the engine failed, or gave numbers that are not finite.
  Result Predict(const Input& input);

  const Manifest& manifest() const { return artifact_.manifest(); }
  std::string EngineName() const { return backend_->Name(); }

 private:
  NearestRows Nearest(const Tensor& layer2, const Tensor& layer3);

  Artifact artifact_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<PortableIndex> index_;  // none where the engine searches
  PatchScorer scorer_;
};

}  // namespace patchcore
