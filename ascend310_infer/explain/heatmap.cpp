#include "explain/heatmap.hpp"

#include <algorithm>
#include <cmath>

#include "image/png_file.hpp"

namespace patchcore {
namespace {

constexpr float kPhotoDim = 0.7F;  // the grey photograph stays darker than the hottest colours
constexpr float kHeatOpacity = 0.85F;
constexpr Color kContour{255, 255, 255};
constexpr double kMapRange = 4;  // of a 16-bit map, in units of scale.high

// Red, green and blue of 256 colours, one after the other; both runtimes read this file.
constexpr std::uint8_t kColors[] = {
#include "heatmap_colors.csv"
};
static_assert(sizeof(kColors) == 256 * 3);

// 0 at `low` or below, 1 at `high` or above.
float Heat(float value, const HeatmapScale& scale) {
  const double heat = (static_cast<double>(value) - scale.low) / (scale.high - scale.low);
  return static_cast<float>(std::clamp(heat, 0.0, 1.0));
}

// One side of Pillow's antialiased bilinear resize in floating point.
//   lines    `count` rows of `length` values; the result has rows of `size` values
std::vector<float> ResizeRows(const std::vector<float>& lines, std::size_t count,
                              std::size_t length, std::size_t size) {
  const double scale = static_cast<double>(length) / static_cast<double>(size);
  const double support = std::max(scale, 1.0);
  std::vector<float> resized(count * size);
  for (std::size_t target = 0; target < size; ++target) {
    const double centre = (static_cast<double>(target) + 0.5) * scale;
    const auto first = static_cast<std::size_t>(std::max(0.0, centre - support + 0.5));
    const auto last = std::min(length, static_cast<std::size_t>(centre + support + 0.5));
    std::vector<double> weights;
    double total = 0;
    for (std::size_t source = first; source < last; ++source) {
      const double distance = std::abs((static_cast<double>(source) - centre + 0.5) / support);
      weights.push_back(std::max(0.0, 1 - distance));
      total += weights.back();
    }
    for (double& weight : weights) weight /= total;
    for (std::size_t line = 0; line < count; ++line) {
      double sum = 0;
      for (std::size_t tap = 0; tap < weights.size(); ++tap) {
        sum += weights[tap] * static_cast<double>(lines[line * length + first + tap]);
      }
      resized[line * size + target] = static_cast<float>(sum);
    }
  }
  return resized;
}

std::vector<float> Transposed(const std::vector<float>& values, std::size_t rows,
                              std::size_t columns) {
  std::vector<float> turned(values.size());
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t column = 0; column < columns; ++column) {
      turned[column * rows + row] = values[row * columns + column];
    }
  }
  return turned;
}

// GCC 9 takes |= of such small numbers for a conversion that may lose bits.
void Mark(std::uint8_t& pixel, std::uint8_t other) {
  pixel = static_cast<std::uint8_t>(pixel | other);
}

// Grows a region by `radius` pixels, in an octagon's shape.
std::vector<std::uint8_t> Dilated(std::vector<std::uint8_t> grown, std::size_t height,
                                  std::size_t width, std::size_t radius) {
  for (std::size_t step = 0; step < radius; ++step) {
    const std::vector<std::uint8_t> before = grown;
    for (std::size_t i = 0; i + width < grown.size(); ++i) {
      Mark(grown[i + width], before[i]);
      Mark(grown[i], before[i + width]);
    }
    // Every second step reaches the diagonal neighbours, too.
    const std::vector<std::uint8_t> sideways = step % 2 == 1 ? grown : before;
    for (std::size_t y = 0; y < height; ++y) {
      for (std::size_t i = y * width; i + 1 < (y + 1) * width; ++i) {
        Mark(grown[i + 1], sideways[i]);
        Mark(grown[i], sideways[i + 1]);
      }
    }
  }
  return grown;
}

void Put(Image& image, std::size_t pixel, const Color& color) {
  std::copy(color.begin(), color.end(),
            image.pixels.begin() + static_cast<std::ptrdiff_t>(3 * pixel));
}

void Paste(Image& canvas, const Image& image, std::size_t left) {
  for (std::size_t y = 0; y < image.height; ++y) {
    const auto row = image.pixels.begin() + static_cast<std::ptrdiff_t>(y * image.width * 3);
    std::copy(row, row + static_cast<std::ptrdiff_t>(image.width * 3),
              canvas.pixels.begin() + static_cast<std::ptrdiff_t>((y * canvas.width + left) * 3));
  }
}

}  // namespace

HeatmapScale ScaleOf(const Calibration& calibration) {
  return {calibration.heatmap.low, calibration.pixel_threshold, calibration.heatmap.high};
}

Color HeatColor(std::size_t level) {
  return {kColors[3 * level], kColors[3 * level + 1], kColors[3 * level + 2]};
}

std::vector<float> MapOnPhotograph(const std::vector<float>& map, std::size_t height,
                                   std::size_t width, const Placement& place) {
  std::vector<float> resized(place.resized_height * place.resized_width, 0.0F);
  for (std::size_t y = 0; y < height; ++y) {
    const auto row = map.begin() + static_cast<std::ptrdiff_t>(y * width);
    std::copy(row, row + static_cast<std::ptrdiff_t>(width),
              resized.begin() +
                  static_cast<std::ptrdiff_t>((place.top + y) * place.resized_width + place.left));
  }
  std::vector<float> wide =
      ResizeRows(resized, place.resized_height, place.resized_width, place.photo_width);
  wide = Transposed(wide, place.resized_height, place.photo_width);
  wide = ResizeRows(wide, place.photo_width, place.resized_height, place.photo_height);
  return Transposed(wide, place.photo_width, place.photo_height);
}

Image Overlay(const Image& photograph, const std::vector<float>& map, const HeatmapScale& scale) {
  Image image = photograph;
  std::vector<std::uint8_t> above(map.size());
  for (std::size_t i = 0; i < map.size(); ++i) {
    const std::uint8_t* rgb = photograph.pixels.data() + 3 * i;
    const std::uint32_t grey = (rgb[0] * 19595U + rgb[1] * 38470U + rgb[2] * 7471U + 0x8000U) >> 16;
    const float heat = Heat(map[i], scale), opacity = heat * kHeatOpacity;
    const Color hot = HeatColor(static_cast<std::size_t>(std::nearbyint(heat * 255)));
    Color mixed{};
    for (std::size_t part = 0; part < 3; ++part) {
      const float dim = static_cast<float>(grey) * kPhotoDim;
      mixed[part] = static_cast<std::uint8_t>(
          std::nearbyint(dim * (1 - opacity) + static_cast<float>(hot[part]) * opacity));
    }
    Put(image, i, mixed);
    above[i] = static_cast<double>(map[i]) > scale.threshold;
  }
  const double side = static_cast<double>(std::min(image.height, image.width));
  const auto thickness = static_cast<std::size_t>(std::max(1.0, std::nearbyint(side / 200)));
  const auto grown = Dilated(above, image.height, image.width, thickness);
  for (std::size_t i = 0; i < grown.size(); ++i) {
    if (grown[i] != 0 && above[i] == 0) Put(image, i, kContour);
  }
  return image;
}

void WriteHeatmap(const std::filesystem::path& path, const Image& photograph,
                  const std::vector<float>& map_on_photograph, const HeatmapScale& scale) {
  const std::size_t gap = std::max<std::size_t>(2, photograph.width / 50);
  const std::size_t bar = std::max<std::size_t>(8, photograph.width / 32);
  Image canvas{photograph.height, 2 * photograph.width + 2 * gap + bar, {}};
  canvas.pixels.assign(canvas.height * canvas.width * 3, 255);
  Paste(canvas, photograph, 0);
  Paste(canvas, Overlay(photograph, map_on_photograph, scale), photograph.width + gap);
  const double notch = (scale.high - scale.threshold) / (scale.high - scale.low);
  const double last = static_cast<double>(canvas.height - 1);
  const auto notch_row = static_cast<std::size_t>(std::nearbyint(notch * last));
  for (std::size_t y = 0; y < canvas.height; ++y) {
    const double heat = 255 - 255 * static_cast<double>(y) / last;
    const Color color =
        y == notch_row ? kContour : HeatColor(static_cast<std::size_t>(std::nearbyint(heat)));
    for (std::size_t x = canvas.width - bar; x < canvas.width; ++x) {
      Put(canvas, y * canvas.width + x, color);
    }
  }
  WritePng(path, canvas);
}

void WriteMap(const std::filesystem::path& path, const std::vector<float>& map, std::size_t height,
              std::size_t width, const HeatmapScale& scale) {
  std::vector<std::uint16_t> grey(map.size());
  std::transform(map.begin(), map.end(), grey.begin(), [&](float value) {
    const double level = static_cast<double>(value) / (kMapRange * scale.high) * 65535;
    return static_cast<std::uint16_t>(std::nearbyint(std::clamp(level, 0.0, 65535.0)));
  });
  WritePng16(path, grey, height, width);
}

}  // namespace patchcore
