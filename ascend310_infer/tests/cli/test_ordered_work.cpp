// Batches in several threads: reports in order, and every thread's failure at the caller.
#include "cli/ordered_work.hpp"

#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "cli/reader.hpp"
#include "errors.hpp"
#include "tests/support/catch.hpp"

namespace {

using patchcore::ImageBatch;
using patchcore::ImageFile;
using patchcore::ImageReader;
using patchcore::LoadedImage;
using patchcore::Report;
using patchcore::WorkInOrder;

std::vector<ImageFile> Numbered(int count) {
  std::vector<ImageFile> images;
  for (int i = 0; i < count; ++i)
    images.push_back({std::to_string(i), std::to_string(i), std::to_string(i)});
  return images;
}

LoadedImage Named(const ImageFile& image) {
  LoadedImage read;
  read.image = image;
  return read;
}

Report Echo(const ImageBatch& batch) {
  Report report;
  for (const LoadedImage& read : batch.images) {
    report.notes += read.image.path + (read.error.empty() ? " " : "! ");
  }
  return report;
}

// The notes of all reports, in the order in which they were written.
struct Written {
  std::string text;
  patchcore::Write write() {
    return [this](const Report& report) { text += report.notes; };
  }
};

}  // namespace

TEST_CASE("reports come in the order of the batches, whatever the number of workers") {
  const std::size_t workers = GENERATE(1, 2, 4);
  const std::size_t batch = GENERATE(1, 3);
  const std::vector<ImageFile> all = Numbered(10);
  ImageReader reader(all, batch, Named);
  Written written;
  WorkInOrder(reader, workers, Echo, written.write());
  REQUIRE(written.text == "0 1 2 3 4 5 6 7 8 9 ");
}

TEST_CASE("what a worker throws reaches the caller, after the reports before it") {
  const std::size_t workers = GENERATE(1, 2, 4);
  const std::vector<ImageFile> all = Numbered(8);
  ImageReader reader(all, 1, Named);
  Written written;
  const auto work = [](const ImageBatch& batch) {
    if (batch.number >= 3) throw std::bad_alloc();
    return Echo(batch);
  };
  REQUIRE_THROWS_AS(WorkInOrder(reader, workers, work, written.write()), std::bad_alloc);
  REQUIRE(written.text == "0 1 2 ");
}

TEST_CASE("what writing throws reaches the caller") {
  const std::size_t workers = GENERATE(1, 2, 4);
  const std::vector<ImageFile> all = Numbered(8);
  ImageReader reader(all, 1, Named);
  const auto write = [](const Report&) { throw patchcore::Error("disk full"); };
  REQUIRE_THROWS_AS(WorkInOrder(reader, workers, Echo, write), patchcore::Error);
}

TEST_CASE("what reading one image throws is the error of that image alone") {
  const std::size_t workers = GENERATE(1, 2, 4);
  const std::vector<ImageFile> all = Numbered(8);
  ImageReader reader(all, 1, [](const ImageFile& image) {
    if (image.name == "2") throw std::bad_alloc();
    if (image.name == "4") throw patchcore::ImageError("4: no image");
    if (image.name == "5") throw std::length_error("vector::_M_default_append");
    if (image.name == "7") throw 7;
    return Named(image);
  });
  Written written;
  WorkInOrder(reader, workers, Echo, written.write());
  REQUIRE(written.text == "0 1 2! 3 4! 5! 6 7! ");
}

TEST_CASE("a reader that is not read to its end stops") {
  const std::vector<ImageFile> all = Numbered(100);
  ImageReader reader(all, 2, Named);
  REQUIRE(reader.Next().images.size() == 2);
}
