// PATCHCORE_CLONED before a function: the compiler makes a version for each generation of x86-64
// processors, and the loader takes the best one for this machine.
//
// CMakeLists.txt defines PATCHCORE_CLONES_NAMED where the compiler knows the levels by name (GCC
// 12) and PATCHCORE_CLONES where it knows processors only. Elsewhere one version is made, also with
// sanitizers, which are not ready when the loader chooses. This is a macro, because an attribute
// cannot be named otherwise.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PATCHCORE_CLONED
#elif defined(PATCHCORE_CLONES_NAMED)
#define PATCHCORE_CLONED [[gnu::target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")]]
#elif defined(PATCHCORE_CLONES)
#define PATCHCORE_CLONED [[gnu::target_clones("arch=skylake-avx512", "arch=haswell", "default")]]
#else
#define PATCHCORE_CLONED
#endif
