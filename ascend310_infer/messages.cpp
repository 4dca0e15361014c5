#include "messages.hpp"

#include <algorithm>
#include <cstdio>
#include <sstream>

namespace patchcore {

std::size_t Utf8Length(std::string_view text) {
  const auto byte = [&](std::size_t at) {
    return at < text.size() ? static_cast<unsigned char>(text[at]) : 0U;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4) return 0;
  // The second byte says whether it is overlong, a surrogate or beyond U+10FFFF.
  const unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high) return 0;
  for (std::size_t at = 2; at < length; ++at) {
    if (byte(at) < 0x80 || byte(at) > 0xBF) return 0;
  }
  return length;
}

std::string Printable(std::string_view text, std::size_t limit) {
  std::string shown;
  for (std::size_t at = 0; at < std::min(limit, text.size());) {
    const std::size_t length = Utf8Length(text.substr(at));
    const auto code = static_cast<unsigned char>(text[at]);
    if (length == 0 || code < 0x20 || code == 0x7F) {
      shown += '?';
      ++at;
      continue;
    }
    if (at + length > limit) break;
    shown += text.substr(at, length);
    at += length;
  }
  return shown;
}

bool IsUtf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = Utf8Length(text.substr(at));
    if (length == 0) return false;
    at += length;
  }
  return true;
}

std::string OneLine(const std::string& text) {
  std::istringstream words(text);
  std::string line;
  for (std::string word; words >> word;) line += (line.empty() ? "" : " ") + word;
  return Printable(line, 200);
}

std::string NumberText(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.*g", digits, value);
  return text;
}

std::string ShapeText(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t side : shape) {
    text += (text.empty() ? "(" : ", ") + std::to_string(side);
  }
  return text.empty() ? "()" : text + ")";
}

}  // namespace patchcore
