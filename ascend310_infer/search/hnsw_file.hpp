// index.hnsw, checked from its first byte to its last before hnswlib sees it; twin of hnsw_file.py.
//
// hnswlib trusts its files, and a false number in one is a crash. The layout is what hnswlib's
// saveIndex writes; artifacts/FORMAT.md has the table.
#pragma once

#include <filesystem>

#include "bank/memory_bank.hpp"

namespace patchcore {

// Refuses a graph that is not one over exactly this bank, or that points out of itself. Reads the
// whole file once.
// Throws ArtifactError: no such file, a header that does not fit bank and file size, a link to no
// element or to one that is not on its level, other labels or vectors than the bank's.
void CheckHnswFile(const std::filesystem::path& path, const MemoryBank& bank);

}  // namespace patchcore
