// Pixels -> PNG files that appear whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "image/decode.hpp"

namespace patchcore {

// Writes 8-bit RGB; makes missing folders, replaces an older file of the name.
// Throws Error: the file cannot be written.
void WritePng(const std::filesystem::path& path, const Image& picture);

// Writes 16-bit grey, row-major (height, width).
void WritePng16(const std::filesystem::path& path, const std::vector<std::uint16_t>& grey,
                std::size_t height, std::size_t width);

}  // namespace patchcore
