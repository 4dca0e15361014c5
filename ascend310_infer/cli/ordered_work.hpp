// Batches of pictures -> lines of text in the pictures' order, several batches in work at once.
//
// Each worker takes the next batch and does everything with it by itself: engines, search and
// scores run side by side without handing anything over, and on an NPU, which does one batch at a
// time, one worker's search runs while the device computes the next one's features.
#pragma once

#include <functional>
#include <string>

#include "cli/reader.hpp"

namespace patchcore {

// What is said about one batch.
struct Report {
  std::string lines;       // for stdout
  std::string complaints;  // for stderr, written first
  bool refused = false;    // a picture of it was
};

using Work = std::function<Report(const PictureBatch&)>;

// Pictures in work at once: one per thread, which wastes least, but each needs memory of its own.
//   batches    of all pictures
std::size_t WorkersFor(std::size_t threads, std::size_t batches);

// Works on all batches of a reader; writes each report when those before it are written.
//   work       called from `workers` threads at once
//   returns    whether a picture was refused
// Throws what the first batch throws whose work fails; the reports before it are written.
bool WorkInOrder(PictureReader& reader, std::size_t workers, const Work& work);

}  // namespace patchcore
