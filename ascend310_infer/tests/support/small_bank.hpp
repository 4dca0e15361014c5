// A bank of seven rows for laws and fuzzing of index.hnsw, as in tests/support/make_fuzz_corpus.py.
#pragma once

#include <cstddef>
#include <vector>

#include "bank/memory_bank.hpp"

constexpr std::size_t kRows = 7, kChannels2 = 2, kChannels3 = 3;

// The first layer counts up, the second down; `bank` points into both, so it is neither copied nor
// moved.
struct SmallBank {
  SmallBank() : layer2(kRows * kChannels2), layer3(kRows * kChannels3) {
    for (std::size_t i = 0; i < layer2.size(); ++i) layer2[i] = static_cast<float>(i);
    for (std::size_t i = 0; i < layer3.size(); ++i) layer3[i] = -static_cast<float>(i);
    bank.layers = {{layer2.data(), kChannels2}, {layer3.data(), kChannels3}};
    bank.rows = kRows;
  }
  SmallBank(const SmallBank&) = delete;
  SmallBank& operator=(const SmallBank&) = delete;

  std::vector<float> layer2, layer3;
  patchcore::MemoryBank bank;
};
