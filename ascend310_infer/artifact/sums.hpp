// The content of SHA256SUMS -> file name -> digest; the twin of patchcore_runtime/artifact/sums.py.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace patchcore {

// A line is 64 lower-case hexadecimal digits, two spaces and a name without control characters. A
// carriage return before the line's end, and a missing end of the last line, are accepted.
//   where   the file's path, for messages
// Throws ArtifactError: a line has another form, or a name is listed twice.
std::map<std::string, std::string, std::less<>> ParseSums(std::string_view content,
                                                          const std::string& where);

}  // namespace patchcore
