#include "image/png_pixels.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "errors.hpp"

namespace patchcore {
namespace {

using std::uint8_t;

uint8_t OnBlack(unsigned int colour, unsigned int alpha) {
  return static_cast<uint8_t>((colour * alpha + 127) / 255);
}

constexpr std::uint32_t kDarkShare = 16;  // an image that stays below this part of white is named

void NameDark(std::uint32_t largest, std::uint32_t white, const std::string& where,
              const ReadOptions& options) {
  if (options.note == nullptr || largest * kDarkShare > white) return;
  *options.note = where + ": 16-bit values up to " + std::to_string(largest) + " of " +
                  std::to_string(white) +
                  " make an almost black image; the camera may have fewer bits: see "
                  "`patchcore-build fit --white-level`";
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

std::vector<uint8_t> FromPalette(const PngSamples& samples, bool opaque) {
  std::array<std::array<uint8_t, 3>, 256> colours{};
  for (std::size_t i = 0; i < colours.size(); ++i) {
    const auto& entry = samples.palette[i];
    const unsigned int alpha = opaque ? 255 : entry[3];
    for (std::size_t c = 0; c < 3; ++c) colours[i][c] = OnBlack(entry[c], alpha);
  }
  return Each(samples.values, 1,
              [&](const uint8_t* from, uint8_t* to) { std::copy_n(colours[*from].data(), 3, to); });
}

// Grey of 16 bits, scaled by the white level.
std::vector<uint8_t> FromDeepGrey(const PngSamples& samples, const std::string& where,
                                  const ReadOptions& options) {
  const std::uint32_t white = options.white_level;
  std::uint32_t largest = 0;
  std::vector<uint8_t> pixels = Each(samples.values, 2, [&](const uint8_t* from, uint8_t* to) {
    const std::uint32_t value = from[0] * 256U + from[1];
    largest = std::max(largest, value);
    to[0] = to[1] = to[2] = static_cast<uint8_t>((value * 255 + white / 2) / white);
  });
  if (largest > white) {
    throw ImageError(where + ": expected grey values up to the white level " +
                     std::to_string(white) + ", got " + std::to_string(largest) +
                     "; save it with the camera's own values");
  }
  NameDark(largest, white, where, options);
  return pixels;
}

std::vector<uint8_t> FromGrey(const PngSamples& samples) {
  const int scale = 255 / ((1 << samples.depth) - 1);
  return Each(samples.values, 1, [=](const uint8_t* from, uint8_t* to) {
    to[0] = to[1] = to[2] = static_cast<uint8_t>(*from * scale);
  });
}

// Whether any pixel of a kind with alpha is visible.
bool AnyVisible(const PngSamples& samples) {
  if (samples.kind == PngKind::kPalette) {
    return std::any_of(samples.values.begin(), samples.values.end(),
                       [&](uint8_t index) { return samples.palette[index][3] != 0; });
  }
  const std::size_t size = samples.depth == 16 ? 2 : 1;
  const std::size_t channels = samples.kind == PngKind::kGreyAlpha ? 2 : 4;
  for (std::size_t at = (channels - 1) * size; at < samples.values.size(); at += channels * size) {
    if (samples.values[at] != 0) return true;
  }
  return false;
}

// Of 16 bits the high byte counts, which comes first.
std::vector<uint8_t> FromSamples(PngSamples samples) {
  const std::size_t size = samples.depth == 16 ? 2 : 1;
  const bool has_alpha = samples.kind == PngKind::kPalette || samples.kind == PngKind::kGreyAlpha ||
                         samples.kind == PngKind::kRgbAlpha;
  const bool opaque = has_alpha && !AnyVisible(samples);
  const auto alpha = [=](uint8_t stored) { return opaque ? 255U : stored; };
  switch (samples.kind) {
    case PngKind::kPalette:
      return FromPalette(samples, opaque);
    case PngKind::kGrey:
      return FromGrey(samples);
    case PngKind::kGreyAlpha:
      return Each(samples.values, 2 * size, [=](const uint8_t* from, uint8_t* to) {
        to[0] = to[1] = to[2] = OnBlack(from[0], alpha(from[size]));
      });
    case PngKind::kRgbAlpha:
      return Each(samples.values, 4 * size, [=](const uint8_t* from, uint8_t* to) {
        for (std::size_t c = 0; c < 3; ++c) to[c] = OnBlack(from[c * size], alpha(from[3 * size]));
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

// Makes the pixels of one colour black, unless the whole image has it.
void ClearColour(const std::array<uint8_t, 3>& colour, std::vector<uint8_t>& pixels) {
  const auto matches = [&](std::size_t at) {
    return std::memcmp(pixels.data() + at, colour.data(), colour.size()) == 0;
  };
  std::size_t first_other = 0;
  while (first_other < pixels.size() && matches(first_other)) first_other += 3;
  if (first_other >= pixels.size()) return;
  for (std::size_t at = 0; at < pixels.size(); at += 3) {
    if (matches(at)) std::memset(pixels.data() + at, 0, 3);
  }
}

}  // namespace

std::vector<uint8_t> ToRgb(PngSamples samples, const std::string& where,
                           const ReadOptions& options) {
  const bool deep = samples.depth == 16;
  if (deep && samples.kind == PngKind::kGrey) return FromDeepGrey(samples, where, options);
  if (deep && options.white_level != kWhite16Bits) {
    throw ImageError(where + ": expected grey, because this artifact has the white level " +
                     std::to_string(options.white_level) +
                     ", got colours of 16 bits; save it as 16-bit grey or as 8-bit RGB");
  }
  const auto transparent = TransparentColour(samples);
  std::vector<uint8_t> pixels = FromSamples(std::move(samples));
  if (transparent) ClearColour(*transparent, pixels);
  if (deep) {
    const std::uint32_t largest = *std::max_element(pixels.begin(), pixels.end());
    NameDark(largest * 256 + 255, kWhite16Bits, where, options);
  }
  return pixels;
}

}  // namespace patchcore
