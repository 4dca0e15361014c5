// Batches of images -> their rows in the images' order, several batches in work at once.
//
// Each worker takes the next batch and does all work on it: network, search and scores run side by
// side, and nothing passes from thread to thread. An NPU does one batch at a time; one worker's
// search then runs while the device computes the features of the next batch.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/reader.hpp"
#include "cli/row.hpp"

namespace patchcore {

// The output for one batch.
struct Report {
  std::vector<Row> rows;
  std::string notes;  // lines for stderr
};

using Work = std::function<Report(const ImageBatch&)>;
using Write = std::function<void(const Report&)>;

// Images in work at once: one per thread, up to a limit, because each needs memory of its own.
//   batches    of all images
std::size_t WorkersFor(std::size_t threads, std::size_t batches);

// Works on all batches of a reader.
//   work       called from `workers` threads at once
//   write      called for one report at a time, in the order of the batches
// Throws the exception of the first batch whose work or writing fails; the reports before it are
// written.
void WorkInOrder(ImageReader& reader, std::size_t workers, const Work& work, const Write& write);

}  // namespace patchcore
