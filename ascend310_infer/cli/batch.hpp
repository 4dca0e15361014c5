// One batch of images -> a result or a refusal for each of them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/reader.hpp"
#include "cli/row.hpp"

namespace patchcore {

using Predict = std::function<std::vector<Result>(const std::vector<const Input*>&)>;
using Finish = std::function<void(const LoadedImage&, Row&)>;

// Scores the images of a batch that could be read. If that fails, each is scored alone, so that
// only the images which fail by themselves are refused.
//   predict    Detector::PredictBatch
//   finish     adds the output of one scored image to its row; what it throws refuses that image
//   returns    one row per image, in order
std::vector<Row> ScoreBatch(const ImageBatch& batch, const Predict& predict, const Finish& finish);

}  // namespace patchcore
