#include "image/png_pixels.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace patchcore {
namespace {

using std::uint8_t;

uint8_t OnBlack(unsigned int colour, unsigned int alpha) {
  return static_cast<uint8_t>((colour * alpha + 127) / 255);
}

// Calls `convert(source, target)` for each pixel of `bytes` stored bytes.
template <typename Convert>
std::vector<uint8_t> Each(const std::vector<uint8_t>& values, std::size_t bytes, Convert convert) {
  std::vector<uint8_t> pixels(values.size() / bytes * 3);
  const uint8_t* source = values.data();
  for (std::size_t at = 0; at < pixels.size(); at += 3, source += bytes) {
    convert(source, pixels.data() + at);
  }
  return pixels;
}

std::vector<uint8_t> FromPalette(const PngSamples& samples) {
  std::array<std::array<uint8_t, 3>, 256> colours{};
  for (std::size_t i = 0; i < colours.size(); ++i) {
    const auto& entry = samples.palette[i];
    for (std::size_t c = 0; c < 3; ++c) colours[i][c] = OnBlack(entry[c], entry[3]);
  }
  return Each(samples.values, 1,
              [&](const uint8_t* from, uint8_t* to) { std::copy_n(colours[*from].data(), 3, to); });
}

std::vector<uint8_t> FromGrey(const PngSamples& samples) {
  if (samples.depth == 16) {
    return Each(samples.values, 2, [](const uint8_t* from, uint8_t* to) {
      const unsigned int value = from[0] * 256U + from[1];
      to[0] = to[1] = to[2] = static_cast<uint8_t>((value + 128) / 257);
    });
  }
  const int scale = 255 / ((1 << samples.depth) - 1);
  return Each(samples.values, 1, [=](const uint8_t* from, uint8_t* to) {
    to[0] = to[1] = to[2] = static_cast<uint8_t>(*from * scale);
  });
}

// Of 16 bits the high byte counts, which comes first.
std::vector<uint8_t> FromSamples(PngSamples samples) {
  const std::size_t size = samples.depth == 16 ? 2 : 1;
  switch (samples.kind) {
    case PngKind::kPalette:
      return FromPalette(samples);
    case PngKind::kGrey:
      return FromGrey(samples);
    case PngKind::kGreyAlpha:
      return Each(samples.values, 2 * size, [=](const uint8_t* from, uint8_t* to) {
        to[0] = to[1] = to[2] = OnBlack(from[0], from[size]);
      });
    case PngKind::kRgbAlpha:
      return Each(samples.values, 4 * size, [=](const uint8_t* from, uint8_t* to) {
        for (std::size_t c = 0; c < 3; ++c) to[c] = OnBlack(from[c * size], from[3 * size]);
      });
    case PngKind::kRgb:
      break;
  }
  if (size == 1) return std::move(samples.values);
  return Each(samples.values, 6, [](const uint8_t* from, uint8_t* to) {
    for (std::size_t c = 0; c < 3; ++c) to[c] = from[2 * c];
  });
}

// The 8-bit colour that is transparent, compared as Pillow does: by the low byte of what tRNS says.
// In 16-bit grey transparency is ignored.
std::optional<std::array<uint8_t, 3>> TransparentColour(const PngSamples& samples) {
  const bool grey = samples.kind == PngKind::kGrey;
  if (!samples.transparent || (grey && samples.depth == 16)) return std::nullopt;
  std::array<uint8_t, 3> colour{};
  for (std::size_t c = 0; c < 3; ++c) {
    const std::uint16_t value = (*samples.transparent)[c];
    const bool bit = grey && samples.depth == 1;
    colour[c] = static_cast<uint8_t>(bit ? (value != 0 ? 255 : 0) : value & 255);
  }
  return colour;
}

}  // namespace

std::vector<uint8_t> ToRgb(PngSamples samples) {
  const auto transparent = TransparentColour(samples);
  std::vector<uint8_t> pixels = FromSamples(std::move(samples));
  if (transparent) {
    for (std::size_t at = 0; at < pixels.size(); at += 3) {
      uint8_t* pixel = pixels.data() + at;
      if (std::memcmp(pixel, transparent->data(), 3) == 0) std::memset(pixel, 0, 3);
    }
  }
  return pixels;
}

}  // namespace patchcore
