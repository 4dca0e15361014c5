// Brightness and contrast of whole inputs, by hand.
#include "image/statistics.hpp"

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/catch.hpp"

using patchcore::Monitoring;
using patchcore::UnusualLight;

namespace {

using Words = std::vector<std::string>;

const Monitoring kUsual{{90, 110}, {5, 30.125}};

// The upper `dark` rows of 33 are black, the others of one colour.
std::vector<std::uint8_t> Split(std::size_t dark, const std::vector<std::uint8_t>& colour) {
  std::vector<std::uint8_t> pixels(33 * 50 * 3, 0);
  for (std::size_t i = dark * 50 * 3; i < pixels.size(); ++i) pixels[i] = colour[i % 3];
  return pixels;
}

}  // namespace

TEST_CASE("one colour has the brightness of its luminance and no contrast") {
  CHECK(UnusualLight(Split(0, {100, 100, 100}), 33, 50, kUsual) ==
        Words{"contrast 0, learned 5 to 30.1"});
  CHECK(UnusualLight(Split(0, {0, 0, 0}), 33, 50, kUsual) ==
        Words{"brightness 0, learned 90 to 110", "contrast 0, learned 5 to 30.1"});
  // 0.299 * 207 + 0.587 * 235 + 0.114 * 15; sums of it round.
  CHECK(UnusualLight(Split(0, {207, 235, 15}), 33, 50, kUsual) ==
        Words{"brightness 202, learned 90 to 110", "contrast 0, learned 5 to 30.1"});
}

TEST_CASE("cells count alike, whatever their sizes, and contrast is of all of them") {
  // Cells of 33 rows have 2 rows each, the last 3. Of 8 rows 4 black rows of cells are made.
  const auto quarter = Split(8, {200, 200, 200});
  CHECK(UnusualLight(quarter, 33, 50, kUsual) ==
        Words{"brightness 150, learned 90 to 110", "contrast 86.6, learned 5 to 30.1"});
  // 15 black rows of cells and one white: the last 3 of 33 rows are a sixteenth.
  CHECK(UnusualLight(Split(30, {160, 160, 160}), 33, 50, {{9.99, 10.01}, {0, 1}}) ==
        Words{"contrast 38.7, learned 0 to 1"});
}

TEST_CASE("values at the ends of what was learned are usual") {
  const auto half = Split(16, {200, 200, 200});  // brightness and contrast are 100
  CHECK(UnusualLight(half, 33, 50, {{100, 100}, {100, 100}}).empty());
  CHECK(UnusualLight(half, 33, 50, {{100.1, 101}, {99, 99.9}}).size() == 2);
}
