// Pixels -> PNG files, each written beside its place and then renamed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "image/decode.hpp"

namespace patchcore {

// Writes 8-bit RGB; creates missing folders and replaces an older file of that name.
// Throws Error: the file cannot be written.
void WritePng(const std::filesystem::path& path, const Image& image);

// Writes 16-bit grey, row-major (height, width).
void WritePng16(const std::filesystem::path& path, const std::vector<std::uint16_t>& grey,
                std::size_t height, std::size_t width);

}  // namespace patchcore
