#include "files/names.hpp"

#include <openssl/evp.h>

#include <array>
#include <cstdint>
#include <cstdio>

#include "messages.hpp"

namespace patchcore {
namespace {

constexpr std::size_t kLongestName = 255;
constexpr std::size_t kMarkDigits = 16;  // of SHA-256 in a shortened name

template <typename... Values>
std::string Format(const char* format, Values... values) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), format, values...);
  return text.data();
}

// The code point of a valid UTF-8 character of `length` bytes.
std::uint32_t CodePoint(std::string_view text, std::size_t length) {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  if (length == 1) return byte(0);
  std::uint32_t code = byte(0) & (0xFFU >> (length + 1));
  for (std::size_t at = 1; at < length; ++at) code = code << 6 | (byte(at) & 0x3FU);
  return code;
}

// Control characters, marks that reverse the writing direction, and line separators.
bool IsUnsafe(std::uint32_t code) {
  const auto in = [&](std::uint32_t low, std::uint32_t high) {
    return low <= code && code <= high;
  };
  return code < 0x20 || in(0x7F, 0x9F) || code == 0x61C || in(0x200E, 0x200F) ||
         in(0x2028, 0x202E) || in(0x2066, 0x2069) || code == 0xFEFF;
}

std::string Escaped(std::string_view text, bool double_backslash) {
  std::string safe;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = Utf8Length(text.substr(at));
    if (length == 0) {
      safe += Format("\\x%02x", static_cast<unsigned char>(text[at]));
      ++at;
      continue;
    }
    const std::uint32_t code = CodePoint(text.substr(at), length);
    if (code == '\\' && double_backslash) {
      safe += "\\\\";
    } else if (IsUnsafe(code)) {
      safe += Format(code < 0x80 ? "\\x%02x" : "\\u%04x", code);
    } else {
      safe += text.substr(at, length);
    }
    at += length;
  }
  return safe;
}

std::string Sha256Hex(std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += Format("%02x", digest[i]);
  return hex;
}

}  // namespace

std::string Shown(std::string_view name) { return Escaped(name, true); }

std::string PrintableText(std::string_view text) { return Escaped(text, false); }

std::string WithSuffix(const std::string& name, const std::string& suffix) {
  const std::size_t slash = name.rfind('/');
  const std::size_t begin = slash == std::string::npos ? 0 : slash + 1;
  std::string last = name.substr(begin);
  if (last.size() + suffix.size() > kLongestName) {
    const std::string mark = "~" + Sha256Hex(last).substr(0, kMarkDigits);
    last = last.substr(0, kLongestName - suffix.size() - mark.size()) + mark;
  }
  return name.substr(0, begin) + last + suffix;
}

}  // namespace patchcore
