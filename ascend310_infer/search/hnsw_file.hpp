// index.hnsw, checked from its first byte to its last before hnswlib sees it; the twin
// of patchcore_runtime/search/hnsw_file.py.
//
// hnswlib trusts its files, and a wrong number in one crashes the program. The layout is what
// hnswlib's saveIndex writes; artifacts/FORMAT.md has the table.
#pragma once

#include <filesystem>

#include "bank/memory_bank.hpp"

namespace patchcore {

// Refuses a graph that was not built over this bank, or that links outside of itself. Reads the
// whole file once.
// Throws ArtifactError: no such file, a header that does not fit bank and file size, a link to no
// element or to one that is not on its level, other labels or vectors than the bank's.
void CheckHnswFile(const std::filesystem::path& path, const MemoryBank& bank);

}  // namespace patchcore
