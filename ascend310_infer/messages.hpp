// Pieces of one-line messages: text, shapes and bytes that come from files and engines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace patchcore {

// Bytes of the UTF-8 character that a text begins with (RFC 3629); 0 when it begins with none.
std::size_t Utf8Length(std::string_view text);

// The text on one line of plain characters, cut to `limit` bytes.
std::string Printable(std::string_view text, std::size_t limit);

// Whether the bytes are text in UTF-8.
bool IsUtf8(std::string_view text);

// The text with every run of white space as one space, cut to 200 bytes.
std::string OneLine(const std::string& text);

// A number with so many significant digits, as Python's `:.4g` writes it for 4.
std::string NumberText(double value, int digits);

// "(1, 256, 40, 40)".
std::string ShapeText(const std::vector<std::int64_t>& shape);

}  // namespace patchcore
