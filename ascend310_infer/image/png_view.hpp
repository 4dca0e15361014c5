// What a decoder is to see of a PNG: FORMAT.md, section PNG, says which chunks matter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace patchcore {

// Parts of the file in their order; together they are a PNG. They point into the file's bytes and
// into `transparency`, so that both must live longer.
struct PngView {
  std::vector<std::pair<const std::uint8_t*, std::size_t>> parts;
  std::vector<std::uint8_t> transparency;  // a tRNS chunk that was cut to the palette
};

// Bytes of a whole file, which begins with the signature of PNG -> its checked view.
// Throws ImageError: a rule is broken, or the file ends before its pixels do.
PngView ViewPng(const std::vector<std::uint8_t>& bytes, const std::string& where);

}  // namespace patchcore
