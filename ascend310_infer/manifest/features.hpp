// The feature network's layers: the `features` section of manifest.json, and their shapes; the twin
// of patchcore_runtime/manifest/features.py.
//
// The section does not depend on the size of a tile; with that size it becomes a Layout.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace patchcore {

class JsonFields;

enum class Upsampling { kBilinear, kNearest };
enum class FeaturePrecision { kFloat32, kInt8 };

inline constexpr std::size_t kMostLayers = 4;

// One output of features.onnx.
struct Layer {
  std::string name;
  std::size_t channels = 0;  // C_i, 1 to 65536
  std::size_t stride = 1;    // s_i, cells of the patch grid along one side of a cell; 1 to 64
};

// One layer of one tile: (channels, height, width).
struct LayerShape : Layer {
  std::size_t height = 0;  // h/s_i
  std::size_t width = 0;   // w/s_i

  std::size_t Cells() const { return height * width; }
};

// The layers of one tile; the first has the patch grid.
struct Layout {
  std::vector<LayerShape> layers;                 // 1 to 4; strides rise or stay equal
  std::size_t patch_px = 0;                       // p, side of a patch in pixels of the input
  Upsampling upsampling = Upsampling::kBilinear;  // of layers of a stride above 1

  std::size_t Height() const { return layers.front().height; }    // h
  std::size_t Width() const { return layers.front().width; }      // w
  std::size_t Patches() const { return layers.front().Cells(); }  // P
};

// The feature network, and how its layers form one patch vector.
struct Features {
  std::string backbone;
  FeaturePrecision precision = FeaturePrecision::kFloat32;  // of features.onnx
  bool has_mindir = false;    // whether the folder has the same network as features.mindir
  std::size_t patch_px = 0;   // 1 to 64
  std::vector<Layer> layers;  // 1 to 4 of different names; strides as in Layout, the first is 1
  Upsampling upsampling = Upsampling::kBilinear;

  // Sides of inputs and tiles are multiples of it, in pixels.
  std::size_t StepPx() const { return patch_px * layers.back().stride; }
  // The layers of a tile of (height, width) pixels, multiples of the step.
  Layout LayoutOf(std::size_t height, std::size_t width) const;
};

// Throws ArtifactError.
Features ReadFeatures(const JsonFields& fields);
// The choice of a field that is `bilinear` or `nearest`.
Upsampling ReadUpsampling(const JsonFields& fields, const char* name);

// The shape that one layer of `count` images must have.
std::vector<std::int64_t> BatchShape(const LayerShape& layer, std::size_t count);

}  // namespace patchcore
