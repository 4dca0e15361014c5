#include "cli/batch.hpp"

#include <utility>

#include "cli/failure.hpp"

namespace patchcore {
namespace {

// Gives the rows their results. Whatever is thrown belongs to them: alone it is a row's error,
// together each is tried again.
void PredictRows(const std::vector<const LoadedImage*>& images, const std::vector<Row*>& rows,
                 const Predict& predict) {
  if (images.empty()) return;
  std::vector<const Input*> inputs;
  for (const LoadedImage* read : images) inputs.push_back(&read->input);
  try {
    std::vector<Result> results = predict(inputs);
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i]->result = std::move(results[i]);
    return;
  } catch (...) {
    if (rows.size() == 1) {
      rows.front()->error = FailureOf(rows.front()->image);
      return;
    }
  }
  for (std::size_t i = 0; i < rows.size(); ++i) PredictRows({images[i]}, {rows[i]}, predict);
}

}  // namespace

std::vector<Row> ScoreBatch(const ImageBatch& batch, const Predict& predict, const Finish& finish) {
  std::vector<Row> rows(batch.images.size());
  std::vector<const LoadedImage*> readable;
  std::vector<Row*> waiting;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i].image = batch.images[i].image.shown;
    rows[i].note = batch.images[i].note;
    rows[i].error = batch.images[i].error;
    if (!rows[i].error.empty()) continue;
    readable.push_back(&batch.images[i]);
    waiting.push_back(&rows[i]);
  }
  PredictRows(readable, waiting, predict);
  for (std::size_t i = 0; i < waiting.size(); ++i) {
    if (!waiting[i]->error.empty()) continue;
    try {
      finish(*readable[i], *waiting[i]);
    } catch (...) {  // whatever it is, it is the result of this image
      waiting[i]->error = FailureOf(waiting[i]->image);
    }
    waiting[i]->result.anomaly_map = {};  // nothing after this reads it
  }
  return rows;
}

}  // namespace patchcore
