// The host's half of a search on an NPU: the queries to the device, and the proof of its answer.
//
// layers of one image -> queries (P, D + 4) -> [device: scores (P, S), rows (P, S)] -> nearest
// rows, the same as by the exact search. artifacts/FORMAT.md, section index.mindir, defines both
// sides. Needs no engine; nothing here can be wrong because a device rounds.
//
// Why. Let c be the mean row and s the power of two that brings the farthest row to a length R in
// [8, 16). Rows and patches are stored and sent as halves of s(v - c), so fp16 operands are exact:
//   q = s(patch - c),  q' its halves,  e = |q - q'|          known for each patch
//   m = s(row - c),    m' its halves,  r = max |m - m'|      known for the bank
// The device sums the D + 4 products of q'·m' - |q'|²/2 - |m'|²/2 = -|q' - m'|²/2, exact each, in
// float32 or better, and may round the sum to half once or more (rounding what is rounded changes
// nothing). With n = D + 4 and A = (|q'| + R)²/2, which bounds the sum of magnitudes, a score t
// means that |q' - m'|²/2 lies within
//   |t|·2^-11                 half's rounding
//   A·n·2^-23                 n sums in float32, twice what rounding to nearest may cost
//   A·2^-22 + 3·2^-14         squares as two halves each; values that a device flushes to zero
// of -t. Rounding and selection are monotone, so every row outside of the shortlist has a score of
// at most the smallest one t in it, and therefore, by the triangle inequality, a distance of at
// least  (sqrt(2·(|t| - bound)) - e - r)/s.  Where the best listed row is nearer than that, it is
// the nearest row. Otherwise, and where a listed row's own score is not within its bound (the
// device computes in less than was assumed, or the file belongs to another bank), the host
// searches. A patch too far from the bank for half precision is never sent to the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bank/memory_bank.hpp"
#include "engine/backend.hpp"
#include "search/exact.hpp"
#include "tensor.hpp"

namespace patchcore {

// The queries to a device about the patches of one image.
struct Queries {
  Tensor columns;               // (P, D + 4), every value a half
  std::vector<float> vectors;   // (P, D), the patch vectors themselves
  std::vector<double> errors;   // (P,) e
  std::vector<double> lengths;  // (P,) |q'|; infinite where the device is not asked
};

// One artifact's bank, ready to question a device about it; not safe to share between threads.
class Shortlist {
 public:
  // The bank's sections stay where they are and must outlive this object. Costs one pass over it.
  //   count      S, at most the bank's rows
  //   threads    of the search on the host
  Shortlist(const MemoryBank& bank, const Layout& layout, std::size_t count, std::size_t threads);

  // Throws std::invalid_argument when a layer has another shape than (1, C, …).
  Queries Ask(const Layers& layers) const;

  // The nearest row of every patch, distances from differences, of equal rows the first.
  // Throws BackendError: a score is not finite, or a row is none of the bank or listed twice.
  NearestRows Rank(const Queries& queries, const Candidates& candidates, const Layers& layers);

  std::size_t count() const { return count_; }
  std::size_t columns() const { return centre_.size() + 4; }
  // Patches ranked so far, and how many of them the host had to search.
  std::size_t patches() const { return patches_; }
  std::size_t searched() const { return searched_; }

 private:
  struct Winner {
    float distance;
    std::int64_t row;
    bool proven;
  };

  void Measure();
  double Bound(double score, double length) const;
  Winner Best(const Queries& queries, const Candidates& candidates, std::size_t patch) const;

  MemoryBank bank_;
  PortableIndex index_;
  std::size_t count_;           // S
  std::vector<double> centre_;  // (D,) c
  double scale_ = 1;            // s
  double longest_ = 0;          // R
  double row_error_ = 0;        // r
  std::size_t patches_ = 0, searched_ = 0;
};

}  // namespace patchcore
