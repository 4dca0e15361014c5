// Batches of images -> lines of text in the images' order, several batches in work at once.
//
// Each worker takes the next batch and does all work on it: network, search and scores run side by
// side, and nothing passes from thread to thread. An NPU does one batch at a time; one worker's
// search then runs while the device computes the features of the next batch.
#pragma once

#include <functional>
#include <string>

#include "cli/reader.hpp"

namespace patchcore {

// The output for one batch.
struct Report {
  std::string lines;       // for stdout
  std::string complaints;  // for stderr, written first
  bool refused = false;    // whether an image of the batch was refused
};

using Work = std::function<Report(const ImageBatch&)>;

// Images in work at once: one per thread, up to a limit, because each needs memory of its own.
//   batches    of all images
std::size_t WorkersFor(std::size_t threads, std::size_t batches);

// Works on all batches of a reader; writes each report when those before it are written.
//   work       called from `workers` threads at once
//   returns    whether an image was refused
// Throws the exception of the first batch whose work fails; the reports before it are written.
bool WorkInOrder(ImageReader& reader, std::size_t workers, const Work& work);

}  // namespace patchcore
