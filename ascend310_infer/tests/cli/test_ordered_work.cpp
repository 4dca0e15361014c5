// Batches in several threads: reports in order, and every thread's failure at the caller.
#include "cli/ordered_work.hpp"

#include <iostream>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "cli/reader.hpp"
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
  for (int i = 0; i < count; ++i) images.push_back({std::to_string(i), std::to_string(i)});
  return images;
}

LoadedImage Named(const ImageFile& image) {
  LoadedImage read;
  read.image = image;
  return read;
}

Report Echo(const ImageBatch& batch) {
  Report report;
  for (const LoadedImage& read : batch.images) report.lines += read.image.path + " ";
  return report;
}

// What is written to std::cout while it lives.
class Written {
 public:
  Written() : before_(std::cout.rdbuf(text_.rdbuf())) {}
  ~Written() { std::cout.rdbuf(before_); }
  Written(const Written&) = delete;
  Written& operator=(const Written&) = delete;
  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
  std::streambuf* before_;
};

}  // namespace

TEST_CASE("reports come in the order of the batches, whatever the number of workers") {
  const std::size_t workers = GENERATE(1, 2, 4);
  const std::size_t batch = GENERATE(1, 3);
  const std::vector<ImageFile> all = Numbered(10);
  ImageReader reader(all, batch, Named);
  const Written written;
  REQUIRE_FALSE(WorkInOrder(reader, workers, Echo));
  REQUIRE(written.text() == "0 1 2 3 4 5 6 7 8 9 ");
}

TEST_CASE("what a worker throws reaches the caller, after the reports before it") {
  const std::size_t workers = GENERATE(1, 2, 4);
  const std::vector<ImageFile> all = Numbered(8);
  ImageReader reader(all, 1, Named);
  const Written written;
  const auto work = [](const ImageBatch& batch) {
    if (batch.number >= 3) throw std::bad_alloc();
    return Echo(batch);
  };
  REQUIRE_THROWS_AS(WorkInOrder(reader, workers, work), std::bad_alloc);
  REQUIRE(written.text() == "0 1 2 ");
}

TEST_CASE("what the reading thread throws reaches the caller, after the reports before it") {
  const std::size_t workers = GENERATE(1, 2, 4);
  const std::vector<ImageFile> all = Numbered(8);
  ImageReader reader(all, 1, [](const ImageFile& image) {
    if (image.name == "5") throw std::length_error("vector::_M_default_append");
    return Named(image);
  });
  const Written written;
  REQUIRE_THROWS_AS(WorkInOrder(reader, workers, Echo), std::length_error);
  REQUIRE(written.text() == "0 1 2 3 4 ");
}

TEST_CASE("a reader that is not read to its end stops") {
  const std::vector<ImageFile> all = Numbered(100);
  ImageReader reader(all, 2, Named);
  REQUIRE(reader.Next().images.size() == 2);
}
