#include "image/preprocess.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "errors.hpp"

namespace patchcore {
namespace {

constexpr int kPrecisionBits = 22;  // fraction of a fixed-point weight: 32 - 8 of a pixel - 2 spare
constexpr double kPi = 3.14159265358979323846;
constexpr std::size_t kMaxResizedSide = 16384;
constexpr std::size_t kChannels = 3;

double Bilinear(double x) {
  x = std::fabs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

// Keys' cubic with a = -0.5.
double Bicubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
  return 0.0;
}

double Sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= kPi;
  return std::sin(x) / x;
}

double Lanczos(double x) { return -3.0 <= x && x < 3.0 ? Sinc(x) * Sinc(x / 3.0) : 0.0; }

struct Filter {
  double (*weight)(double);
  double radius;
};

Filter FilterOf(ResampleFilter filter) {
  switch (filter) {
    case ResampleFilter::kBicubic:
      return {Bicubic, 2.0};
    case ResampleFilter::kLanczos:
      return {Lanczos, 3.0};
    case ResampleFilter::kBilinear:
      break;
  }
  return {Bilinear, 1.0};
}

// Which source pixels make one target pixel, and with what fixed-point weights.
struct Taps {
  std::size_t first = 0;
  std::vector<std::int32_t> weights;
};

std::vector<std::int32_t> ToFixedPoint(const std::vector<double>& weights) {
  double sum = 0.0;
  for (const double weight : weights) sum += weight;
  std::vector<std::int32_t> fixed;
  fixed.reserve(weights.size());
  for (double weight : weights) {
    if (sum != 0.0) weight /= sum;
    const double scaled = weight * (1 << kPrecisionBits);
    fixed.push_back(static_cast<std::int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5));
  }
  return fixed;
}

// Taps of target pixels [from, from + count), of `target` that `source` pixels are resized to.
// Every operation is Pillow's, in its order: float64 rounds differently in any other.
std::vector<Taps> MakeTaps(std::size_t source, std::size_t target, std::size_t from,
                           std::size_t count, const Filter& filter) {
  const double scale = static_cast<double>(source) / static_cast<double>(target);
  const double stretch = std::max(scale, 1.0);
  const double support = filter.radius * stretch;
  const double inverse = 1.0 / stretch;
  std::vector<Taps> all(count);
  std::vector<double> weights;
  for (std::size_t i = 0; i < count; ++i) {
    const double center = (static_cast<double>(from + i) + 0.5) * scale;
    const auto low = static_cast<std::int64_t>(center - support + 0.5);
    const auto high = static_cast<std::int64_t>(center + support + 0.5);
    const auto first = static_cast<std::size_t>(std::max<std::int64_t>(low, 0));
    const std::size_t last = std::min(source, static_cast<std::size_t>(high));
    weights.clear();
    for (std::size_t j = first; j < last; ++j) {
      const double offset = static_cast<double>(j) - center + 0.5;
      weights.push_back(filter.weight(offset * inverse));
    }
    all[i] = {first, ToFixedPoint(weights)};
  }
  return all;
}

std::uint8_t Rounded(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255));
}

constexpr std::int32_t kHalf = 1 << (kPrecisionBits - 1);

// Rows [first_row, first_row + rows) of the image, columns resized -> (rows, taps.size(), 3).
std::vector<std::uint8_t> ResizeColumns(const Image& image, std::size_t first_row, std::size_t rows,
                                        const std::vector<Taps>& taps) {
  std::vector<std::uint8_t> resized(rows * taps.size() * kChannels);
  std::uint8_t* target = resized.data();
  for (std::size_t row = 0; row < rows; ++row) {
    const std::uint8_t* line = image.pixels.data() + (first_row + row) * image.width * kChannels;
    for (const Taps& tap : taps) {
      const std::uint8_t* pixel = line + tap.first * kChannels;
      std::int32_t red = kHalf;
      std::int32_t green = kHalf;
      std::int32_t blue = kHalf;
      for (const std::int32_t weight : tap.weights) {
        red += weight * pixel[0];
        green += weight * pixel[1];
        blue += weight * pixel[2];
        pixel += kChannels;
      }
      target[0] = Rounded(red);
      target[1] = Rounded(green);
      target[2] = Rounded(blue);
      target += kChannels;
    }
  }
  return resized;
}

// Rows of `stride` bytes, the first of them `first_row` of the image -> (taps.size(), stride).
std::vector<std::uint8_t> ResizeRows(const std::vector<std::uint8_t>& rows, std::size_t first_row,
                                     std::size_t stride, const std::vector<Taps>& taps) {
  std::vector<std::uint8_t> resized(taps.size() * stride);
  std::vector<std::int32_t> sums(stride);
  std::uint8_t* target = resized.data();
  for (const Taps& tap : taps) {
    std::fill(sums.begin(), sums.end(), kHalf);
    const std::uint8_t* line = rows.data() + (tap.first - first_row) * stride;
    for (const std::int32_t weight : tap.weights) {
      for (std::size_t x = 0; x < stride; ++x) sums[x] += weight * line[x];
      line += stride;
    }
    for (std::size_t x = 0; x < stride; ++x) target[x] = Rounded(sums[x]);
    target += stride;
  }
  return resized;
}

// A window of some rows and columns, unresized.
std::vector<std::uint8_t> Cut(const Image& image, std::size_t top, std::size_t rows,
                              std::size_t left, std::size_t columns) {
  std::vector<std::uint8_t> window;
  window.reserve(rows * columns * kChannels);
  for (std::size_t row = top; row < top + rows; ++row) {
    const auto start =
        image.pixels.begin() + static_cast<std::ptrdiff_t>((row * image.width + left) * kChannels);
    window.insert(window.end(), start, start + static_cast<std::ptrdiff_t>(columns * kChannels));
  }
  return window;
}

}  // namespace

std::pair<std::size_t, std::size_t> ResizedSize(std::size_t height, std::size_t width,
                                                const Preprocessing& settings) {
  if (settings.resize == Resize::kStretch) return {settings.resize_height, settings.resize_width};
  const std::size_t side = settings.resize_height;
  if (height <= width) return {side, side * width / height};
  return {side * height / width, side};
}

void CheckResize(const std::string& where, std::size_t height, std::size_t width,
                 const Preprocessing& settings) {
  const auto [resized_height, resized_width] = ResizedSize(height, width, settings);
  const std::size_t largest =
      std::max({height * resized_width, resized_height * width, resized_height * resized_width});
  if (largest > kMaxPixels || std::max(resized_height, resized_width) > kMaxResizedSide) {
    throw ImageError(where + ": " + std::to_string(width) + " x " + std::to_string(height) +
                     " px is too elongated to resize to " + std::to_string(resized_width) + " x " +
                     std::to_string(resized_height) + "; cut it into parts");
  }
}

ReadOptions PhotographOptions(const Preprocessing& settings, std::string* note,
                              std::function<void(std::size_t)> reserve) {
  ReadOptions options;
  options.white_level = settings.white_level;
  options.note = note;
  options.accept = [&settings, reserve = std::move(reserve)](
                       const std::string& where, std::size_t height, std::size_t width) {
    CheckResize(where, height, width, settings);
    if (reserve) reserve(ReadingBytes(height, width, settings));
  };
  return options;
}

std::size_t ReadingBytes(std::size_t height, std::size_t width, const Preprocessing& settings) {
  const auto [resized_height, resized_width] = ResizedSize(height, width, settings);
  return 24 * height * width + 4 * (height + resized_height) * resized_width;
}

std::size_t DrawingBytes(const Placement& place) {
  return (64 * place.photo_height + 4 * place.resized_height) * place.photo_width;
}

Input FitToInput(const Image& image, const Preprocessing& settings) {
  CheckResize("image", image.height, image.width, settings);
  const auto [resized_height, resized_width] = ResizedSize(image.height, image.width, settings);
  Input input;
  input.placement = {image.height,
                     image.width,
                     resized_height,
                     resized_width,
                     (resized_height - settings.height) / 2,
                     (resized_width - settings.width) / 2};
  const std::size_t top = input.placement.top;
  const std::size_t left = input.placement.left;
  const Filter filter = FilterOf(settings.filter);
  // The rows of the image that reach the crop; a side that keeps its length is not resized.
  std::size_t first_row = top;
  std::size_t rows = settings.height;
  std::vector<Taps> row_taps;
  if (resized_height != image.height) {
    row_taps = MakeTaps(image.height, resized_height, top, settings.height, filter);
    first_row = row_taps.front().first;
    rows = row_taps.back().first + row_taps.back().weights.size() - first_row;
  }
  if (resized_width != image.width) {
    const auto taps = MakeTaps(image.width, resized_width, left, settings.width, filter);
    input.pixels = ResizeColumns(image, first_row, rows, taps);
  } else {
    input.pixels = Cut(image, first_row, rows, left, settings.width);
  }
  if (!row_taps.empty()) {
    input.pixels = ResizeRows(input.pixels, first_row, settings.width * kChannels, row_taps);
  }
  return input;
}

}  // namespace patchcore
