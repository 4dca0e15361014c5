// Files that appear whole or not at all; the twin of patchcore_runtime/files/whole.py.
#pragma once

#include <filesystem>
#include <string_view>

namespace patchcore {

// Writes or replaces one file: under a new name in its folder, then renamed. An older file is
// unchanged until then, and nothing else remains after a failure.
// Throws Error: the folder is missing or cannot be written, the disk is full, or something that is
// no regular file has this name.
void WriteWhole(const std::filesystem::path& path, std::string_view bytes);

// Checks that WriteWhole can write here, by a new file that is removed at once; for use before long
// work.
// Throws as WriteWhole.
void CheckWritable(const std::filesystem::path& path);

}  // namespace patchcore
