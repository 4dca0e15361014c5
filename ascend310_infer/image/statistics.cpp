#include "image/statistics.hpp"

#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include "messages.hpp"

namespace patchcore {
namespace {

constexpr std::size_t kSide = 16;                                 // of a thumbnail, in cells
constexpr std::array<double, 3> kLuminance{0.299, 0.587, 0.114};  // ITU-R BT.601
constexpr double kRounding = 1e-6;  // more than the order of sums changes in a value

// The luminance of 16 x 16 cells, whose sizes differ by at most one pixel.
std::vector<double> Thumbnail(const std::vector<std::uint8_t>& pixels, std::size_t height,
                              std::size_t width) {
  std::vector<double> cells;
  for (std::size_t row = 0; row < kSide; ++row) {
    const std::size_t top = row * height / kSide, bottom = (row + 1) * height / kSide;
    for (std::size_t column = 0; column < kSide; ++column) {
      const std::size_t left = column * width / kSide, right = (column + 1) * width / kSide;
      std::array<std::uint64_t, 3> sums{};
      for (std::size_t y = top; y < bottom; ++y) {
        for (std::size_t at = (y * width + left) * 3; at < (y * width + right) * 3; ++at) {
          sums[at % 3] += pixels[at];
        }
      }
      const auto count = static_cast<double>((bottom - top) * (right - left));
      double luminance = 0;
      for (std::size_t i = 0; i < 3; ++i) {
        luminance += kLuminance[i] * (static_cast<double>(sums[i]) / count);
      }
      cells.push_back(luminance);
    }
  }
  return cells;
}

double Mean(const std::vector<double>& values) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return sum / static_cast<double>(values.size());
}

// The standard deviation of all values there are.
double Deviation(std::vector<double> values, double mean) {
  for (double& value : values) value = (value - mean) * (value - mean);
  return std::sqrt(Mean(values));
}

void AddUnusual(const std::string& name, double value, const UsualRange& learned,
                std::vector<std::string>& reasons) {
  if (learned.low - kRounding <= value && value <= learned.high + kRounding) return;
  const double shown = std::round(value / kRounding) * kRounding;  // one colour has contrast 0
  reasons.push_back(name + " " + NumberText(shown, 3) + ", learned " + NumberText(learned.low, 3) +
                    " to " + NumberText(learned.high, 3));
}

}  // namespace

std::vector<std::string> UnusualLight(const std::vector<std::uint8_t>& pixels, std::size_t height,
                                      std::size_t width, const Monitoring& monitoring) {
  const std::vector<double> thumbnail = Thumbnail(pixels, height, width);
  const double brightness = Mean(thumbnail);
  std::vector<std::string> reasons;
  AddUnusual("brightness", brightness, monitoring.brightness, reasons);
  AddUnusual("contrast", Deviation(thumbnail, brightness), monitoring.contrast, reasons);
  return reasons;
}

}  // namespace patchcore
