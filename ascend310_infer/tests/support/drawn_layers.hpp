// A layout of any strides, and a bank and one image's layers of seeded normal values for it.
#pragma once

#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "bank/memory_bank.hpp"
#include "manifest/features.hpp"
#include "tensor.hpp"

struct Sizes {
  std::size_t channels, stride;
};

inline patchcore::Layout LayoutOf(
    const std::vector<Sizes>& layers, std::size_t height, std::size_t width,
    patchcore::Upsampling upsampling = patchcore::Upsampling::kBilinear, std::size_t patch_px = 8) {
  patchcore::Features features;
  features.patch_px = patch_px;
  features.upsampling = upsampling;
  for (const auto& [channels, stride] : layers) {
    features.layers.push_back({"layer" + std::to_string(features.layers.size()), channels, stride});
  }
  return features.LayoutOf(height * patch_px, width * patch_px);
}

// A bank over rows of several layers, which it points into.
//   rows       (M, C_i) each; norms are filled
inline patchcore::MemoryBank BankOver(const std::vector<std::vector<float>>& rows,
                                      const patchcore::Layout& layout, std::vector<float>& norms) {
  patchcore::MemoryBank bank;
  bank.rows = rows[0].size() / layout.layers[0].channels;
  norms.assign(bank.rows, 0.0F);
  for (std::size_t layer = 0; layer < rows.size(); ++layer) {
    const std::size_t channels = layout.layers[layer].channels;
    for (std::size_t i = 0; i < rows[layer].size(); ++i) {
      norms[i / channels] += rows[layer][i] * rows[layer][i];
    }
    bank.layers.push_back({rows[layer].data(), channels});
  }
  bank.norms = norms.data();
  return bank;
}

struct DrawnLayers {
  DrawnLayers(const patchcore::Layout& of, std::size_t count, unsigned seed, float mean,
              float spread)
      : random(seed), normal(mean, spread), layout(of) {
    for (const patchcore::LayerShape& shape : layout.layers) {
      rows.push_back(Draw(count * shape.channels));
    }
    for (const patchcore::LayerShape& shape : layout.layers) {
      layers.push_back({BatchShape(shape, 1), Draw(shape.channels * shape.Cells())});
    }
  }

  std::vector<float> Draw(std::size_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = normal(random);
    return values;
  }

  patchcore::MemoryBank Bank() const { return BankOver(rows, layout, norms); }

  std::mt19937 random;
  std::normal_distribution<float> normal;
  patchcore::Layout layout;
  std::vector<std::vector<float>> rows;  // (M, C_i) each
  patchcore::Layers layers;
  mutable std::vector<float> norms;
};
