// A bank of seven rows for laws and fuzzing of index.hnsw, as in tests/support/make_fuzz_corpus.py.
#pragma once

#include <cstddef>
#include <vector>

#include "bank/memory_bank.hpp"

constexpr std::size_t kRows = 7, kChannels2 = 2, kChannels3 = 3;

// layer2 counts up, layer3 down; `bank` points into both, so it is neither copied nor moved.
struct SmallBank {
  SmallBank() : layer2(kRows * kChannels2), layer3(kRows * kChannels3) {
    for (std::size_t i = 0; i < layer2.size(); ++i) layer2[i] = static_cast<float>(i);
    for (std::size_t i = 0; i < layer3.size(); ++i) layer3[i] = -static_cast<float>(i);
    bank.layer2 = layer2.data();
    bank.layer3 = layer3.data();
    bank.rows = kRows;
    bank.channels2 = kChannels2;
    bank.channels3 = kChannels3;
  }
  SmallBank(const SmallBank&) = delete;
  SmallBank& operator=(const SmallBank&) = delete;

  std::vector<float> layer2, layer3;
  patchcore::MemoryBank bank;
};
