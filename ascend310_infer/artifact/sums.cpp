#include "artifact/sums.hpp"

#include <algorithm>

#include "errors.hpp"

namespace patchcore {
namespace {

constexpr std::size_t kDigestLength = 64;
constexpr std::size_t kNameStart = kDigestLength + 2;

bool IsLine(std::string_view line) {
  const auto digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127; };
  return line.size() > kNameStart && line.substr(kDigestLength, 2) == "  " &&
         std::all_of(line.begin(), line.begin() + kDigestLength, digit) &&
         std::none_of(line.begin() + kNameStart, line.end(), control);
}

}  // namespace

std::map<std::string, std::string, std::less<>> ParseSums(std::string_view content,
                                                          const std::string& where) {
  std::map<std::string, std::string, std::less<>> sums;
  const auto refuse = [&](std::size_t number, const std::string& reason) {
    throw ArtifactError(where + ": line " + std::to_string(number) + ": " + reason);
  };
  for (std::size_t number = 1; !content.empty(); ++number) {
    const std::size_t end = content.find('\n');
    std::string_view line = content.substr(0, end);
    content.remove_prefix(end == std::string_view::npos ? content.size() : end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (!IsLine(line)) refuse(number, "expected `sha256  file name`");
    const bool added = sums.emplace(line.substr(kNameStart), line.substr(0, kDigestLength)).second;
    if (!added) refuse(number, "a file is listed twice; copy it again");
  }
  return sums;
}

}  // namespace patchcore
