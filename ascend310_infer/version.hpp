// The version of this program and library; that of the Python packages.
#pragma once

namespace patchcore {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace patchcore
