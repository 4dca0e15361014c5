#include "manifest/features.hpp"

#include <algorithm>
#include <set>
#include <string_view>

#include "files/json_fields.hpp"

namespace patchcore {
namespace {

// Whether an output of a network may have this name: one of three words, and 1 to 4 digits.
bool IsLayerName(std::string_view name) {
  for (const std::string_view word : {"layer", "block", "output"}) {
    if (name.substr(0, word.size()) != word) continue;
    const std::string_view number = name.substr(word.size());
    return !number.empty() && number.size() <= 4 &&
           number.find_first_not_of("0123456789") == std::string_view::npos;
  }
  return false;
}

Layer ReadLayer(const JsonFields& fields) {
  Layer layer;
  layer.name = fields.Text("name");
  fields.Check(IsLayerName(layer.name), "name", "layer, block or output, and 1 to 4 digits");
  layer.channels = fields.Size("channels", 1, 65536, "1 to 65536");
  layer.stride = fields.Size("stride", 1, 64, "1 to 64");
  return layer;
}

void CheckLayers(const JsonFields& fields, const std::vector<Layer>& layers) {
  fields.Check(!layers.empty() && layers.size() <= kMostLayers, "layers", "1 to 4 layers");
  std::set<std::string> names;
  for (const Layer& layer : layers) names.insert(layer.name);
  fields.Check(names.size() == layers.size(), "layers", "layers of different names");
  const auto lower = [](const Layer& left, const Layer& right) {
    return left.stride < right.stride;
  };
  const bool rising = std::is_sorted(layers.begin(), layers.end(), lower);
  fields.Check(rising && layers.front().stride == 1, "layers", "strides from 1 on that never fall");
}

}  // namespace

Layout Features::LayoutOf(std::size_t height, std::size_t width) const {
  Layout layout{{}, patch_px, upsampling};
  for (const Layer& layer : layers) {
    const std::size_t cell_px = patch_px * layer.stride;
    layout.layers.push_back({layer, height / cell_px, width / cell_px});
  }
  return layout;
}

Features ReadFeatures(const JsonFields& fields) {
  Features features;
  features.backbone = fields.Text("backbone");
  features.precision = fields.OneOf<FeaturePrecision>(
      "precision", {{"float32", FeaturePrecision::kFloat32}, {"int8", FeaturePrecision::kInt8}});
  features.has_mindir = fields.OneOf<bool>("mindir", {{"none", false}, {"float32", true}});
  fields.Check(features.precision == FeaturePrecision::kFloat32 || !features.has_mindir, "mindir",
               "none where precision is int8");
  features.patch_px = fields.Size("patch_px", 1, 64, "1 to 64");
  for (const JsonFields& layer : fields.Objects("layers", {"name", "channels", "stride"})) {
    features.layers.push_back(ReadLayer(layer));
  }
  features.upsampling = ReadUpsampling(fields, "upsampling");
  CheckLayers(fields, features.layers);
  return features;
}

Upsampling ReadUpsampling(const JsonFields& fields, const char* name) {
  return fields.OneOf<Upsampling>(
      name, {{"bilinear", Upsampling::kBilinear}, {"nearest", Upsampling::kNearest}});
}

std::vector<std::int64_t> BatchShape(const LayerShape& layer, std::size_t count) {
  const auto side = [](std::size_t value) { return static_cast<std::int64_t>(value); };
  return {side(count), side(layer.channels), side(layer.height), side(layer.width)};
}

}  // namespace patchcore
