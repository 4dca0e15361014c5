// Regions of small maps; tests/cpp/test_cpp_regions.py compares many with Python's.
#include "explain/regions.hpp"

#include <string>

#include "tests/support/catch.hpp"

namespace {

using patchcore::AnomalyRegion;
using patchcore::Polygon;

// Digits are values; 0 is below the threshold.
std::vector<AnomalyRegion> Of(const std::string& digits, std::size_t width) {
  std::vector<float> map;
  for (const char digit : digits) map.push_back(static_cast<float>(digit - '0'));
  return patchcore::FindRegions(map, map.size() / width, width, 0.5);
}

}  // namespace

TEST_CASE("a map below the threshold has no regions") {
  REQUIRE(Of("0000", 2).empty());
  REQUIRE(patchcore::FindRegions({0.5F}, 1, 1, 0.5).empty());
}

TEST_CASE("regions come with the highest peak first, and their areas cover the pixels above") {
  const auto regions =
      Of("1100"
         "0007"
         "3007",
         4);
  REQUIRE(regions.size() == 3);
  REQUIRE((regions[0].area == 2 && regions[1].area == 1 && regions[2].area == 2));
  REQUIRE(regions[0].box == std::array<std::size_t, 4>{1, 3, 3, 4});
  REQUIRE(regions[0].peak == std::array<std::size_t, 2>{1, 3});
  REQUIRE(regions[0].peak_value == 7);
  REQUIRE(regions[0].contour == Polygon{{1, 3}, {1, 4}, {3, 4}, {3, 3}});
}

TEST_CASE("pixels that touch at a corner are one region with one outline") {
  const auto regions =
      Of("10"
         "01",
         2);
  REQUIRE(regions.size() == 1);
  REQUIRE(regions[0].area == 2);
  REQUIRE(regions[0].contour.size() >= 3);
}
