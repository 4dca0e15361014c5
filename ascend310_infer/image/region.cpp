#include "image/region.hpp"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>

#include "errors.hpp"
#include "image/decode.hpp"
#include "image/preprocess.hpp"

namespace patchcore {
namespace {

constexpr std::int64_t kAspectShare = 50;  // a fiftieth: how far a mask's aspect ratio may be off

std::string SizeText(std::size_t width, std::size_t height) {
  return std::to_string(width) + " x " + std::to_string(height);
}

// 1 where a black and white image is white, row-major.
std::vector<std::uint8_t> White(const Image& image, const std::string& where) {
  std::vector<std::uint8_t> white(image.height * image.width);
  for (std::size_t i = 0; i < white.size(); ++i) {
    const std::uint8_t* pixel = image.pixels.data() + 3 * i;
    const bool grey = pixel[0] == pixel[1] && pixel[1] == pixel[2];
    if (!grey || (pixel[0] != 0 && pixel[0] != 255)) {
      throw ImageError(
          where + ": expected a mask of black (0) and white (255) pixels alone, got (" +
          std::to_string(pixel[0]) + ", " + std::to_string(pixel[1]) + ", " +
          std::to_string(pixel[2]) + ") at x " + std::to_string(i % image.width) + ", y " +
          std::to_string(i / image.width) + "; save it as PNG, white where it is inspected");
    }
    white[i] = pixel[0] == 255 ? 1 : 0;
  }
  return white;
}

// Clears the pixels of cells of which less than half is marked.
Region Reduced(std::vector<std::uint8_t> pixels, std::size_t width, std::size_t patch_px,
               const std::string& where) {
  const std::size_t height = pixels.size() / width, columns = width / patch_px;
  const std::size_t area = patch_px * patch_px;
  std::vector<std::size_t> counts(height / patch_px * columns, 0);
  const auto cell = [&](std::size_t pixel) {
    return pixel / width / patch_px * columns + pixel % width / patch_px;
  };
  for (std::size_t i = 0; i < pixels.size(); ++i) counts[cell(i)] += pixels[i];
  Region region{std::move(pixels), std::vector<std::uint8_t>(counts.size())};
  std::transform(counts.begin(), counts.end(), region.patches.begin(),
                 [&](std::size_t count) { return static_cast<std::uint8_t>(2 * count >= area); });
  if (std::count(region.patches.begin(), region.patches.end(), 1) == 0) {
    throw ImageError(where + ": expected white pixels to inspect, got no patch of " +
                     SizeText(patch_px, patch_px) +
                     " input pixels "
                     "that is half white; draw a larger region");
  }
  for (std::size_t i = 0; i < region.pixels.size(); ++i) {
    region.pixels[i] = static_cast<std::uint8_t>(region.pixels[i] & region.patches[cell(i)]);
  }
  return region;
}

void CheckAspect(const Image& image, const RegionOfInterest& photo, const std::string& where) {
  const auto width = static_cast<std::int64_t>(image.width);
  const auto height = static_cast<std::int64_t>(image.height);
  const auto photo_width = static_cast<std::int64_t>(photo.photo_width);
  const auto photo_height = static_cast<std::int64_t>(photo.photo_height);
  const std::int64_t gap = std::abs(width * photo_height - height * photo_width);
  if (gap * kAspectShare <= height * photo_width) return;
  throw ImageError(where +
                   ": expected a mask with the aspect ratio of the artifact's photographs, " +
                   SizeText(photo.photo_width, photo.photo_height) + " px, got " +
                   SizeText(image.width, image.height) + "; draw it on one of them");
}

}  // namespace

Region ReadRegion(const std::filesystem::path& path, const Preprocessing& settings,
                  const RegionOfInterest& photo, std::size_t patch_px) {
  const std::string where = path.string();
  const Image image = ReadImage(path);
  CheckAspect(image, photo, where);
  const std::vector<std::uint8_t> white = White(image, where);
  const auto [rows, columns] = ResizedSize(image.height, image.width, settings);
  const std::size_t top = (rows - settings.height) / 2, left = (columns - settings.width) / 2;
  std::vector<std::uint8_t> pixels;
  pixels.reserve(settings.height * settings.width);
  for (std::size_t y = top; y < top + settings.height; ++y) {
    // Of the source's pixels, the one at the target's centre.
    const std::size_t row = (2 * y + 1) * image.height / (2 * rows);
    for (std::size_t x = left; x < left + settings.width; ++x) {
      pixels.push_back(white[row * image.width + (2 * x + 1) * image.width / (2 * columns)]);
    }
  }
  return Reduced(std::move(pixels), settings.width, patch_px, where);
}

Region StoredRegion(const std::filesystem::path& path, const Preprocessing& settings,
                    std::size_t patch_px) {
  const std::string where = path.string();
  try {
    const Image image = ReadImage(path);
    const std::vector<std::uint8_t> pixels = White(image, where);
    if (image.height != settings.height || image.width != settings.width) {
      throw ImageError(where + ": expected " + SizeText(settings.width, settings.height) +
                       " px as the input, got " + SizeText(image.width, image.height));
    }
    Region region = Reduced(pixels, settings.width, patch_px, where);
    const auto lone = std::count(pixels.begin(), pixels.end(), 1) -
                      std::count(region.pixels.begin(), region.pixels.end(), 1);
    if (lone > 0) {
      throw ImageError(where + ": expected white only in patches that count, got " +
                       std::to_string(lone) + " px elsewhere");
    }
    return region;
  } catch (const ImageError& error) {
    throw ArtifactError(std::string(error.what()) + "; copy the folder again");
  }
}

}  // namespace patchcore
