#include "explain/heatmap.hpp"

#include <algorithm>
#include <cmath>

#include "image/png_file.hpp"

namespace patchcore {
namespace {

using Color = std::array<std::uint8_t, 3>;
using Linear = std::array<double, 3>;

constexpr double kPi = 3.14159265358979323846;
constexpr float kPhotoDim = 0.7F;  // the grey photograph stays darker than the hottest colours
constexpr float kHeatOpacity = 0.85F;
constexpr Color kContour{255, 255, 255};
constexpr double kMapRange = 4;  // of a 16-bit map, in units of scale.high

// One colour of OKLCh, hue in radians; outside [0, 1] sRGB cannot show it.
Linear LinearSrgb(double lightness, double chroma, double hue) {
  const double a = chroma * std::cos(hue), b = chroma * std::sin(hue);
  const double l = std::pow(lightness + 0.3963377774 * a + 0.2158037573 * b, 3);
  const double m = std::pow(lightness - 0.1055613458 * a - 0.0638541728 * b, 3);
  const double s = std::pow(lightness - 0.0894841775 * a - 1.2914855480 * b, 3);
  return {4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
          -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
          -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s};
}

double LargestChroma(double lightness, double hue) {
  double inside = 0, outside = 0.5;
  for (int step = 0; step < 30; ++step) {
    const double chroma = (inside + outside) / 2;
    const Linear color = LinearSrgb(lightness, chroma, hue);
    const bool shown = std::all_of(color.begin(), color.end(),
                                   [](double part) { return part >= 0 && part <= 1; });
    (shown ? inside : outside) = chroma;
  }
  return inside;
}

std::array<Color, 256> MakeColorTable() {
  constexpr int kWindow = 65;  // smooths the gamut's sharp edges, which would look like contours
  std::array<double, 256> largest{};
  const auto lightness = [](std::size_t i) { return 0.16 + 0.81 * static_cast<double>(i) / 255; };
  const auto hue = [](std::size_t i) {
    return (270.0 + 195.0 * static_cast<double>(i) / 255) * kPi / 180;  // blue, red, yellow
  };
  for (std::size_t i = 0; i < 256; ++i) largest[i] = LargestChroma(lightness(i), hue(i));
  std::array<Color, 256> table{};
  for (std::size_t i = 0; i < 256; ++i) {
    double sum = 0, weights = 0;
    for (int tap = 0; tap < kWindow; ++tap) {
      const double weight = 0.5 - 0.5 * std::cos(2 * kPi * tap / (kWindow - 1));
      const int place = std::clamp(static_cast<int>(i) + tap - kWindow / 2, 0, 255);
      sum += weight * largest[static_cast<std::size_t>(place)];
      weights += weight;
    }
    const double chroma = std::min(0.9 * sum / weights, largest[i]);
    const Linear color = LinearSrgb(lightness(i), chroma, hue(i));
    for (std::size_t part = 0; part < 3; ++part) {
      const double value = std::clamp(color[part], 0.0, 1.0);
      const double curved =
          value <= 0.0031308 ? 12.92 * value : 1.055 * std::pow(value, 1 / 2.4) - 0.055;
      table[i][part] = static_cast<std::uint8_t>(std::nearbyint(255 * curved));
    }
  }
  return table;
}

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

// Grows a region by `radius` pixels, in an octagon's shape.
std::vector<std::uint8_t> Dilated(std::vector<std::uint8_t> grown, std::size_t height,
                                  std::size_t width, std::size_t radius) {
  for (std::size_t step = 0; step < radius; ++step) {
    const std::vector<std::uint8_t> before = grown;
    for (std::size_t i = 0; i + width < grown.size(); ++i) {
      grown[i + width] |= before[i];
      grown[i] |= before[i + width];
    }
    // Every second step reaches the diagonal neighbours, too.
    const std::vector<std::uint8_t> sideways = step % 2 == 1 ? grown : before;
    for (std::size_t y = 0; y < height; ++y) {
      for (std::size_t i = y * width; i + 1 < (y + 1) * width; ++i) {
        grown[i + 1] |= sideways[i];
        grown[i] |= sideways[i + 1];
      }
    }
  }
  return grown;
}

void Put(Image& picture, std::size_t pixel, const Color& color) {
  std::copy(color.begin(), color.end(),
            picture.pixels.begin() + static_cast<std::ptrdiff_t>(3 * pixel));
}

void Paste(Image& canvas, const Image& picture, std::size_t left) {
  for (std::size_t y = 0; y < picture.height; ++y) {
    const auto row = picture.pixels.begin() + static_cast<std::ptrdiff_t>(y * picture.width * 3);
    std::copy(row, row + static_cast<std::ptrdiff_t>(picture.width * 3),
              canvas.pixels.begin() +
                  static_cast<std::ptrdiff_t>((y * canvas.width + left) * 3));
  }
}

}  // namespace

HeatmapScale ScaleOf(const Calibration& calibration) {
  return {calibration.heatmap.low, calibration.pixel_threshold, calibration.heatmap.high};
}

const std::array<Color, 256>& ColorTable() {
  static const std::array<Color, 256> table = MakeColorTable();
  return table;
}

std::vector<float> MapOnPhotograph(const std::vector<float>& map, std::size_t height,
                                   std::size_t width, const Placement& place) {
  std::vector<float> resized(place.resized_height * place.resized_width, 0.0F);
  for (std::size_t y = 0; y < height; ++y) {
    const auto row = map.begin() + static_cast<std::ptrdiff_t>(y * width);
    std::copy(row, row + static_cast<std::ptrdiff_t>(width),
              resized.begin() + static_cast<std::ptrdiff_t>(
                                    (place.top + y) * place.resized_width + place.left));
  }
  std::vector<float> wide =
      ResizeRows(resized, place.resized_height, place.resized_width, place.photo_width);
  wide = Transposed(wide, place.resized_height, place.photo_width);
  wide = ResizeRows(wide, place.photo_width, place.resized_height, place.photo_height);
  return Transposed(wide, place.photo_width, place.photo_height);
}

Image Overlay(const Image& photograph, const std::vector<float>& map, const HeatmapScale& scale) {
  Image picture = photograph;
  std::vector<std::uint8_t> above(map.size());
  for (std::size_t i = 0; i < map.size(); ++i) {
    const std::uint8_t* rgb = photograph.pixels.data() + 3 * i;
    const std::uint32_t grey = (rgb[0] * 19595U + rgb[1] * 38470U + rgb[2] * 7471U + 0x8000U) >> 16;
    const float heat = Heat(map[i], scale), opacity = heat * kHeatOpacity;
    const Color& hot = ColorTable()[static_cast<std::size_t>(std::nearbyint(heat * 255))];
    Color mixed{};
    for (std::size_t part = 0; part < 3; ++part) {
      const float dim = static_cast<float>(grey) * kPhotoDim;
      mixed[part] = static_cast<std::uint8_t>(
          std::nearbyint(dim * (1 - opacity) + static_cast<float>(hot[part]) * opacity));
    }
    Put(picture, i, mixed);
    above[i] = static_cast<double>(map[i]) > scale.threshold;
  }
  const double side = static_cast<double>(std::min(picture.height, picture.width));
  const auto thickness = static_cast<std::size_t>(std::max(1.0, std::nearbyint(side / 200)));
  const auto grown = Dilated(above, picture.height, picture.width, thickness);
  for (std::size_t i = 0; i < grown.size(); ++i) {
    if (grown[i] != 0 && above[i] == 0) Put(picture, i, kContour);
  }
  return picture;
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
    const Color& color =
        y == notch_row ? kContour : ColorTable()[static_cast<std::size_t>(std::nearbyint(heat))];
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
