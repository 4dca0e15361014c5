// Laws of the resize and crop that need no Pillow; tests/cpp/test_cpp_preprocess.py compares bytes.
#include "image/preprocess.hpp"

#include "artifact/folder.hpp"
#include "errors.hpp"
#include "tests/support/catch.hpp"

namespace {

using patchcore::FitToInput;
using patchcore::Image;
using patchcore::Input;
using patchcore::Preprocessing;
using patchcore::ResampleFilter;
using patchcore::Resize;

constexpr ResampleFilter kFilters[] = {ResampleFilter::kBilinear, ResampleFilter::kBicubic,
                                       ResampleFilter::kLanczos};

// Pixels that differ from place to place.
Image Pattern(std::size_t height, std::size_t width) {
  Image image{height, width, std::vector<std::uint8_t>(height * width * 3)};
  std::uint32_t state = 1;
  for (std::uint8_t& value : image.pixels) {
    state = state * 1664525 + 1013904223;
    value = static_cast<std::uint8_t>(state >> 24);
  }
  return image;
}

Preprocessing Stretch(std::size_t height, std::size_t width, ResampleFilter filter) {
  return {Resize::kStretch, height, width, filter, height, width};
}

TEST_CASE("The golden self-test image becomes its golden input") {
  const patchcore::Artifact artifact = patchcore::Artifact::Open(PATCHCORE_TINY);
  const Image image = patchcore::ReadImage(artifact.Path(patchcore::kSelftestImage));
  const Image expected = patchcore::ReadImage(artifact.Path(patchcore::kSelftestInput));
  CHECK(FitToInput(image, artifact.manifest().preprocess).pixels == expected.pixels);
}

TEST_CASE("An image of the input's size stays as it is") {
  const Image image = Pattern(40, 56);
  for (const ResampleFilter filter : kFilters) {
    CHECK(FitToInput(image, Stretch(40, 56, filter)).pixels == image.pixels);
  }
}

TEST_CASE("One colour stays one colour under every filter and size") {
  for (const int colour : {0, 1, 127, 128, 254, 255}) {
    const auto value = static_cast<std::uint8_t>(colour);
    const Image image{33, 91, std::vector<std::uint8_t>(33 * 91 * 3, value)};
    for (const ResampleFilter filter : kFilters) {
      for (const std::size_t side : {32, 47, 90, 211}) {
        const Input input = FitToInput(image, Stretch(side, side + 3, filter));
        CHECK(input.pixels == std::vector<std::uint8_t>(side * (side + 3) * 3, value));
      }
    }
  }
}

TEST_CASE("A crop is the window of the whole resized image") {
  const Image image = Pattern(71, 133);
  for (const ResampleFilter filter : kFilters) {
    for (const std::size_t side : {48, 71, 97}) {
      Preprocessing settings{Resize::kShorterSide, side, side, filter, 40, 37};
      const Input cropped = FitToInput(image, settings);
      const std::size_t width = cropped.placement.resized_width;
      const Input whole = FitToInput(image, Stretch(side, width, filter));
      const std::size_t top = (side - 40) / 2;
      const std::size_t left = (width - 37) / 2;
      CHECK(cropped.placement.top == top);
      CHECK(cropped.placement.left == left);
      std::vector<std::uint8_t> window;
      for (std::size_t row = top; row < top + 40; ++row) {
        const std::uint8_t* start = whole.pixels.data() + (row * width + left) * 3;
        window.insert(window.end(), start, start + 37 * 3);
      }
      CHECK(cropped.pixels == window);
    }
  }
}

TEST_CASE("The longer side and the crop are rounded down") {
  const Preprocessing settings{Resize::kShorterSide, 71, 71, ResampleFilter::kBicubic, 48, 64};
  const auto placed = [&](std::size_t height, std::size_t width) {
    const patchcore::Placement place = FitToInput(Pattern(height, width), settings).placement;
    return std::vector<std::size_t>{place.resized_height, place.resized_width, place.top,
                                    place.left};
  };
  CHECK(placed(71, 71) == std::vector<std::size_t>{71, 71, 11, 3});
  CHECK(placed(142, 143) == std::vector<std::size_t>{71, 71, 11, 3});
  CHECK(placed(142, 144) == std::vector<std::size_t>{71, 72, 11, 4});
  CHECK(placed(144, 142) == std::vector<std::size_t>{72, 71, 12, 3});
  CHECK(placed(100, 300) == std::vector<std::size_t>{71, 213, 11, 74});
  CHECK(placed(300, 100) == std::vector<std::size_t>{213, 71, 82, 3});
}

TEST_CASE("An image too elongated to resize is refused") {
  const Preprocessing settings{Resize::kShorterSide, 71, 71, ResampleFilter::kBicubic, 48, 64};
  CHECK_NOTHROW(FitToInput(Pattern(8, 1800), settings));
  CHECK_THROWS_WITH(
      FitToInput(Pattern(8, 8000), settings),
      "image: 8000 x 8 px is too elongated to resize to 71000 x 71; cut it into parts");
}

}  // namespace
