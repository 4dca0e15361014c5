// Input -> score, verdict and anomaly map, by everything an artifact says; the twin of
// patchcore_runtime/detector.py.
//
// features -> exact search -> image score and map. PatchCore, Roth et al. 2021 (arXiv:2106.08265).
#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "artifact/folder.hpp"
#include "engine/backend.hpp"
#include "image/preprocess.hpp"
#include "scoring/patch_scorer.hpp"
#include "scoring/thresholds.hpp"
#include "search/engine_search.hpp"
#include "search/exact.hpp"
#include "search/hnsw_index.hpp"

namespace patchcore {

// kAuto uses the artifact's own kind of index; the others are exact, whatever that kind is. kExact
// takes the faster of the engine's own search and the portable one: on a CPU the portable one.
enum class Search { kAuto, kExact, kEngine, kPortable };

// How long the stages of one image took; a batch's feature time is divided equally.
struct Timings {
  double features_ms = 0;
  double search_ms = 0;
  double score_ms = 0;
};

// Measures the milliseconds since the last call, or since its construction.
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

// What to act on. kNotThisPart: the image does not show what was learned, whatever its score.
enum class Verdict { kGood, kAnomalous, kNotThisPart };

// The result for one image. A larger score is stranger; scores are never clamped.
struct Result {
  double score = 0;
  double p_value = 0;    // share of good images at least as strange, from held-out scores
  double threshold = 0;  // of `score`
  Verdict verdict = Verdict::kGood;
  std::vector<std::string> reasons;   // why it is not good, in words and numbers; empty if it is
  std::array<std::size_t, 2> peak{};  // y, x of the map's maximum, on the photograph as shown
  std::vector<float> anomaly_map;     // (H, W), row-major, input geometry
  Timings timings;

  // Whether the image is not good, whatever the reason.
  bool is_anomalous() const { return verdict != Verdict::kGood; }
};

// A loaded artifact, ready to score. It is safe to share between threads; they take turns if the
// engine runs one call at a time.
class Detector {
 public:
  // Searches by index.hnsw if the artifact has one and `search` is kAuto; otherwise by the exact
  // search that `search` names, or the portable one if the engine has none. index.faiss is never
  // read: such an artifact is searched exactly, and KindNote() says so.
  //   roi        path of a mask image inside the artifact's own region; empty: that region
  //   wanted     thresholds in place of the artifact's own
  // Throws ThresholdError: a threshold is out of range; ArtifactError, BackendError as MakeBackend
  // does; ImageError as InspectedRegion does.
  Detector(const Artifact& artifact, const BackendOptions& options, Search search,
           const std::string& roi = "", const Wanted& wanted = {});

  // Scores one preprocessed image.
  // Throws BackendError: the engine failed, or gave numbers that are not finite.
  Result Predict(const Input& input);

  // Scores some images, which go through the network together. Each result equals that of the
  // image alone, within the engine's rounding. If images are cut into tiles, as many tiles go
  // through together as there are images, so that memory does not grow with the number of tiles.
  // Throws as Predict.
  //   inputs     any number, not owned
  std::vector<Result> PredictBatch(const std::vector<const Input*>& inputs);

  // Layers, (T, C_i, h/s_i, w/s_i) each, of one input's T tiles, which go through the network one
  // by one; throws as Predict.
  Layers Features(const Input& input);

  const Manifest& manifest() const { return artifact_.manifest(); }
  // The artifact's calibration, with the requested thresholds.
  const Calibration& calibration() const { return calibration_; }
  std::string EngineName() const { return backend_->Name(); }
  std::string SearchNote() const { return engine_search_ ? engine_search_->Note() : ""; }
  // One line if another search replaces the artifact's own kind of index; otherwise empty.
  std::string KindNote() const;

 private:
  // A tile of one of the images that are scored together.
  struct Piece {
    std::size_t image, tile;
  };

  Layers Features(const std::vector<const Input*>& inputs, const std::vector<Piece>& pieces);
  void ScoreTiles(const std::vector<const Input*>& inputs, const std::vector<Piece>& pieces,
                  std::vector<ImageInWork>& works, std::vector<Result>& results, Stopwatch& watch);
  void Finish(const ImageInWork& work, const Input& input, Result& result) const;
  NearestRows Nearest(const Layers& layers);
  std::unique_lock<std::mutex> EngineTurn();

  Artifact artifact_;
  Calibration calibration_;
  Search search_;
  std::unique_ptr<Backend> backend_;
  std::mutex engine_turn_;  // held while an engine runs that takes one call at a time
  // Exactly one of these three searches is set.
  std::unique_ptr<EngineSearch> engine_search_;
  std::unique_ptr<PortableIndex> index_;
  std::unique_ptr<HnswIndex> hnsw_;
  PatchScorer scorer_;
};

}  // namespace patchcore
