// The processor cores that this process may use.
#pragma once

#include <cstddef>

namespace patchcore {

// Cores that the scheduler gives this process, which may be fewer than the machine has; at least 1.
std::size_t UsableCores();

}  // namespace patchcore
