// Show an anomaly map on its photograph, on one fixed scale per artifact; the twin of
// patchcore_runtime/explain/heatmap.py.
//
// photograph + map -> RGB image. A colour stands for a value and never for a rank inside one
// image, so good parts do not glow. Colours step evenly in OKLab lightness (Ottosson 2020).
// The image carries no text, because text would need a font.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "image/decode.hpp"
#include "image/preprocess.hpp"
#include "manifest/manifest.hpp"

namespace patchcore {

// Values of the darkest and the brightest colour and of the contour line, in map units.
struct HeatmapScale {
  double low = 0;
  double threshold = 0;
  double high = 0;
};

HeatmapScale ScaleOf(const Calibration& calibration);

using Color = std::array<std::uint8_t, 3>;  // sRGB

// One of 256 colours: lightness in equal steps, hue from blue over red to yellow. They come from
// runtime/patchcore_runtime/explain/heatmap_colors.csv, which the Python runtime reads, too.
//   level      0 to 255
Color HeatColor(std::size_t level);

// Lays the map on the photograph it was made of, as Result.map_on does.
//   map        row-major (height, width), input geometry
//   returns    row-major (photo_height, photo_width); 0 outside the crop, which the detector does
//   not see
std::vector<float> MapOnPhotograph(const std::vector<float>& map, std::size_t height,
                                   std::size_t width, const Placement& placement);

// Lays the heat over the dimmed grey photograph and draws the contour of the threshold.
//   map_on_photograph   (height, width) of the photograph, finite
Image Overlay(const Image& photograph, const std::vector<float>& map_on_photograph,
              const HeatmapScale& scale);

// Writes photograph, overlay and colour bar side by side as one PNG.
void WriteHeatmap(const std::filesystem::path& path, const Image& photograph,
                  const std::vector<float>& map_on_photograph, const HeatmapScale& scale);

// Writes a map (height, width) as 16-bit grey on the artifact's fixed scale:
// value = grey · 4 · scale.high / 65535; larger values become 65535.
void WriteMap(const std::filesystem::path& path, const std::vector<float>& map, std::size_t height,
              std::size_t width, const HeatmapScale& scale);

}  // namespace patchcore
