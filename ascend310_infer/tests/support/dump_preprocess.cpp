// Images -> their network inputs, for comparing with Python byte by byte.
//
// Reads lines `PATH resize resize_height resize_width filter height width white_level`, separated
// by tabs, from standard input; `PATH` alone stands for decoding without a resize. For each it
// writes one line `ok H W photo_height photo_width resized_height resized_width top left` and then
// the (H, W, 3) bytes, or one line `refused MESSAGE`.
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "errors.hpp"
#include "image/decode.hpp"
#include "image/preprocess.hpp"

namespace {

using patchcore::Image;
using patchcore::Input;
using patchcore::Preprocessing;
using patchcore::ResampleFilter;
using patchcore::Resize;

std::vector<std::string> Fields(const std::string& line) {
  std::vector<std::string> fields;
  std::istringstream text(line);
  for (std::string field; std::getline(text, field, '\t');) fields.push_back(field);
  return fields;
}

Preprocessing Settings(const std::vector<std::string>& fields) {
  Preprocessing settings;
  settings.resize = fields.at(1) == "stretch" ? Resize::kStretch : Resize::kShorterSide;
  settings.resize_height = std::stoul(fields.at(2));
  settings.resize_width = std::stoul(fields.at(3));
  settings.filter = fields.at(4) == "bilinear"  ? ResampleFilter::kBilinear
                    : fields.at(4) == "bicubic" ? ResampleFilter::kBicubic
                                                : ResampleFilter::kLanczos;
  settings.height = std::stoul(fields.at(5));
  settings.width = std::stoul(fields.at(6));
  settings.white_level = static_cast<std::uint32_t>(std::stoul(fields.at(7)));
  return settings;
}

void Write(std::size_t height, std::size_t width, const Input& input) {
  const auto& place = input.placement;
  std::cout << "ok " << height << ' ' << width << ' ' << place.photo_height << ' '
            << place.photo_width << ' ' << place.resized_height << ' ' << place.resized_width << ' '
            << place.top << ' ' << place.left << '\n';
  std::cout.write(reinterpret_cast<const char*>(input.pixels.data()),
                  static_cast<std::streamsize>(input.pixels.size()));
}

void Dump(const std::vector<std::string>& fields) {
  if (fields.size() == 1) {
    Image image = patchcore::ReadImage(fields.at(0));
    const std::size_t height = image.height;
    const std::size_t width = image.width;
    Write(height, width, {std::move(image.pixels), {height, width, height, width, 0, 0}});
    return;
  }
  const Preprocessing settings = Settings(fields);
  const Image image = patchcore::ReadImage(fields.at(0), patchcore::PhotographOptions(settings));
  Write(settings.height, settings.width, patchcore::FitToInput(image, settings));
}

}  // namespace

int main() {
  std::ios::sync_with_stdio(false);
  for (std::string line; std::getline(std::cin, line);) {
    try {
      Dump(Fields(line));
    } catch (const patchcore::Error& error) {
      std::cout << "refused " << error.what() << '\n';
    }
    std::cout.flush();
  }
}
