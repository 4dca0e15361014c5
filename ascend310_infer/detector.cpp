#include "detector.hpp"

#include <algorithm>
#include <cmath>

#include "artifact/engine_files.hpp"
#include "artifact/region.hpp"
#include "errors.hpp"
#include "image/statistics.hpp"
#include "messages.hpp"

namespace patchcore {
namespace {

bool UsesHnsw(const Artifact& artifact, Search search) {
  return search == Search::kAuto && artifact.manifest().index.kind == IndexKind::kHnsw;
}

BackendOptions ForSearch(BackendOptions options, const Artifact& artifact, Search search) {
  const bool faster = search != Search::kPortable && options.device != Device::kCpu;
  options.search = search == Search::kEngine || (faster && !UsesHnsw(artifact, search));
  return options;
}

PatchScorer ScorerOf(const Artifact& artifact, const std::string& roi) {
  const Manifest& manifest = artifact.manifest();
  const TileGrid grid(manifest.tiling, manifest.preprocess, manifest.features.patch_px);
  const std::optional<Region> learned = LearnedRegion(artifact);
  return PatchScorer(artifact.bank(), manifest.layout(), manifest.scoring, grid,
                     InspectedRegion(artifact, learned, roi),
                     learned ? learned->patches : std::vector<std::uint8_t>());
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

// One image's layer of a batch: (count, C, h, w) -> (1, C, h, w).
Tensor Slice(const Tensor& batch, std::size_t image) {
  const std::size_t size = batch.values.size() / static_cast<std::size_t>(batch.shape.front());
  const auto first = batch.values.begin() + static_cast<std::ptrdiff_t>(image * size);
  Tensor slice{batch.shape, {first, first + static_cast<std::ptrdiff_t>(size)}};
  slice.shape.front() = 1;
  return slice;
}

// One image's layers of a batch.
Layers Slices(const Layers& batch, std::size_t image) {
  Layers slices;
  for (const Tensor& layer : batch) slices.push_back(Slice(layer, image));
  return slices;
}

// Adds one tile's layer to those before it, along the first axis.
void Append(const Tensor& tile, Tensor& layer) {
  layer.values.insert(layer.values.end(), tile.values.begin(), tile.values.end());
  layer.shape.front() += tile.shape.front();
}

}  // namespace

Detector::Detector(const Artifact& artifact, const BackendOptions& options, Search search,
                   const std::string& roi, const Wanted& wanted)
    : artifact_(artifact),
      calibration_(WithThresholds(artifact.manifest().calibration, wanted)),
      search_(search),
      backend_(MakeBackend(EngineFilesOf(artifact), ForSearch(options, artifact, search))),
      scorer_(ScorerOf(artifact, roi)) {
  const std::size_t threads = std::max<std::size_t>(1, options.threads / options.workers);
  if (UsesHnsw(artifact, search)) {
    hnsw_ = OpenHnswIndex(artifact, threads);
  } else if (EngineSearch::Serves(*backend_)) {
    engine_search_ = std::make_unique<EngineSearch>(*backend_, artifact_.bank(),
                                                    manifest().layout(), options.threads);
  } else {
    index_ = std::make_unique<PortableIndex>(artifact.bank(), manifest().layout(), threads);
  }
}

std::string Detector::KindNote() const {
  const IndexKind kind = manifest().index.kind;
  const bool served = kind == IndexKind::kExact || kind == IndexKind::kHnsw;
  if (served || search_ != Search::kAuto) return {};
  return "index.faiss is not read by this program: all rows of memory_bank.bin are searched "
         "exactly, so map and score may differ from the self-test's by as much as that index's do";
}

Result Detector::Predict(const Input& input) { return std::move(PredictBatch({&input}).front()); }

std::vector<Result> Detector::PredictBatch(const std::vector<const Input*>& inputs) {
  Stopwatch watch;
  std::vector<Result> results(inputs.size());
  std::vector<ImageInWork> works(inputs.size(), scorer_.Begin());
  std::vector<Piece> pieces;
  for (std::size_t image = 0; image < inputs.size(); ++image) {
    for (std::size_t tile = 0; tile < scorer_.grid().tiles(); ++tile) {
      pieces.push_back({image, tile});
      const bool last = image + 1 == inputs.size() && tile + 1 == scorer_.grid().tiles();
      if (pieces.size() < inputs.size() && !last) continue;
      ScoreTiles(inputs, pieces, works, results, watch);
      pieces.clear();
    }
  }
  return results;
}

void Detector::ScoreTiles(const std::vector<const Input*>& inputs, const std::vector<Piece>& pieces,
                          std::vector<ImageInWork>& works, std::vector<Result>& results,
                          Stopwatch& watch) {
  const Layers all = Features(inputs, pieces);
  const double features_ms = watch.Lap() / static_cast<double>(pieces.size());
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const auto [image, tile] = pieces[i];
    Result& result = results[image];
    const Layers layers = Slices(all, i);
    const NearestRows nearest = Nearest(layers);
    result.timings.features_ms += features_ms;
    result.timings.search_ms += watch.Lap();
    scorer_.Add(tile, layers, nearest, works[image]);
    if (tile + 1 == scorer_.grid().tiles()) {
      Finish(works[image], *inputs[image], result);
    }
    result.timings.score_ms += watch.Lap();
  }
}

void Detector::Finish(const ImageInWork& work, const Input& input, Result& result) const {
  PatchScores scores = scorer_.Finish(work);
  result.score = scores.score;
  result.p_value = PValue(calibration_, calibration_.image_scores, result.score);
  result.threshold = calibration_.image_threshold;
  const Preprocessing& size = manifest().preprocess;
  result.reasons = Strangeness(calibration_.gate, scores.gate);
  if (!result.reasons.empty()) {
    result.verdict = Verdict::kNotThisPart;
    for (std::string& reason :
         UnusualLight(input.pixels, size.height, size.width, manifest().monitoring)) {
      result.reasons.push_back(std::move(reason));
    }
  }
  if (result.score > result.threshold) {
    if (result.verdict == Verdict::kGood) result.verdict = Verdict::kAnomalous;
    result.reasons.push_back("score " + NumberText(result.score, 4) + ", expected at most " +
                             NumberText(result.threshold, 4));
  }
  result.anomaly_map = std::move(scores.anomaly_map);
  result.peak = Peak(result.anomaly_map, size.width, input.placement);
}

Layers Detector::Features(const Input& input) {
  Layers layers = Features({&input}, {{0, 0}});
  for (std::size_t tile = 1; tile < scorer_.grid().tiles(); ++tile) {
    const Layers more = Features({&input}, {{0, tile}});
    for (std::size_t i = 0; i < layers.size(); ++i) Append(more[i], layers[i]);
  }
  return layers;
}

Layers Detector::Features(const std::vector<const Input*>& inputs,
                          const std::vector<Piece>& pieces) {
  std::vector<std::uint8_t> images;  // (count, tile_height, tile_width, 3)
  const Tiling& tiling = manifest().tiling;
  images.reserve(pieces.size() * tiling.tile_height * tiling.tile_width * 3);
  for (const Piece& piece : pieces) {
    scorer_.grid().Cut(inputs[piece.image]->pixels, piece.tile, images);
  }
  const auto turn = EngineTurn();
  return backend_->Features(images.data(), pieces.size());
}

std::unique_lock<std::mutex> Detector::EngineTurn() {
  if (backend_->RunsConcurrently()) return {};
  return std::unique_lock<std::mutex>(engine_turn_);
}

NearestRows Detector::Nearest(const Layers& layers) {
  const auto by_engine = [&] {
    const auto turn = EngineTurn();
    return engine_search_->Nearest(layers);
  };
  NearestRows nearest = hnsw_    ? hnsw_->Nearest(layers)
                        : index_ ? index_->Nearest(layers)
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
