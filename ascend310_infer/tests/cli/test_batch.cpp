// A batch whose images fail, one by one or together.
#include "cli/batch.hpp"

#include <new>
#include <stdexcept>

#include "errors.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/scratch.hpp"

namespace {

using patchcore::ImageBatch;
using patchcore::Input;
using patchcore::LoadedImage;
using patchcore::Result;
using patchcore::Row;

// The pixels of an image are its number.
ImageBatch Numbered(std::uint8_t count) {
  ImageBatch batch;
  for (std::uint8_t i = 0; i < count; ++i) {
    LoadedImage read;
    read.image.shown = std::to_string(i) + ".png";
    read.input.pixels = {i};
    batch.images.push_back(read);
  }
  return batch;
}

std::vector<Result> Scored(const std::vector<const Input*>& inputs) {
  std::vector<Result> results(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) results[i].score = inputs[i]->pixels.front();
  return results;
}

void Nothing(const LoadedImage&, Row&) {}

// Throws something else for each image but 0 and 4; no image has memory beside others.
std::vector<Result> Fragile(const std::vector<const Input*>& inputs) {
  if (inputs.size() > 1) throw std::bad_alloc();
  switch (inputs.front()->pixels.front()) {
    case 1:
      throw std::bad_alloc();
    case 2:
      throw patchcore::BackendError("features.onnx: broken");
    case 3:
      throw std::length_error("vector::reserve");
    case 5:
      throw 5;
    default:
      return Scored(inputs);
  }
}

}  // namespace

TEST_CASE("images that fail are refused by name, and the others are scored") {
  const std::vector<Row> rows = patchcore::ScoreBatch(Numbered(6), Fragile, Nothing);
  REQUIRE(rows.size() == 6);
  REQUIRE((rows[0].error.empty() && rows[4].error.empty()));
  REQUIRE(rows[4].result.score == 4);
  REQUIRE(Mentions(rows[1].error, "1.png: not enough memory"));
  REQUIRE(rows[2].error == "2.png: features.onnx: broken");
  REQUIRE(Mentions(rows[3].error, "3.png: cannot be scored (vector::reserve)"));
  REQUIRE(Mentions(rows[5].error, "5.png: cannot be scored"));
}

TEST_CASE("images that could not be read never reach the network") {
  ImageBatch batch = Numbered(3);
  batch.images[1].error = "1.png: no image";
  const std::vector<Row> rows = patchcore::ScoreBatch(batch, Scored, Nothing);
  REQUIRE(rows[1].error == "1.png: no image");
  REQUIRE((rows[0].result.score == 0 && rows[2].result.score == 2));
  REQUIRE(rows[2].image == "2.png");
}

TEST_CASE("a map that cannot be written refuses its image alone") {
  const auto finish = [](const LoadedImage& read, Row& row) {
    if (read.image.shown == "1.png") throw patchcore::Error("maps/1.png: cannot be written");
    row.map = read.image.shown;
  };
  const std::vector<Row> rows = patchcore::ScoreBatch(Numbered(3), Scored, finish);
  REQUIRE(rows[1].error == "1.png: maps/1.png: cannot be written");
  REQUIRE((rows[0].map == "0.png" && rows[2].map == "2.png"));
}
