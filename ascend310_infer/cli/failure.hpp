// What the work on one image threw -> the line that says why this image has no result.
#pragma once

#include <string>

namespace patchcore {

// Call it inside a catch block, of any kind of exception.
//   path       of the image; the line begins with it
std::string FailureOf(const std::string& path);

}  // namespace patchcore
