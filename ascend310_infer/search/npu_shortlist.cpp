#include "search/npu_shortlist.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "errors.hpp"

namespace patchcore {
namespace {

constexpr double kLongest = 16;         // of a row after scaling; FORMAT.md
constexpr double kLargestLength = 361;  // its half square is half precision's largest number
const double kSmallest = std::ldexp(1.0, -14);  // half's smallest normal number
const double kHalfRounding = std::ldexp(1.0, -11);
const double kFloatSum = std::ldexp(1.0, -23);
const double kSplitSquare = std::ldexp(1.0, -22);
const double kDistanceRounding = std::ldexp(1.0, -22);  // relative, of PortableIndex::Distance

// The nearest half, ties to even; zero below the smallest normal one. |value| < 65504.
double ToHalf(double value) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  bits += (std::uint64_t{1} << 41) - 1 + ((bits >> 42) & 1);  // a double has 42 bits more
  bits &= ~((std::uint64_t{1} << 42) - 1);
  std::memcpy(&value, &bits, sizeof(bits));
  return std::abs(value) < kSmallest ? 0 : value;
}

// One whole row of the bank, (D,).
std::vector<float> WholeRow(const MemoryBank& bank, std::size_t row) {
  std::vector<float> whole;
  whole.reserve(bank.Size());
  for (const MemoryBank::Part& layer : bank.layers) {
    whole.insert(whole.end(), layer.Row(row), layer.Row(row) + layer.channels);
  }
  return whole;
}

[[noreturn]] void Refuse(std::size_t patch, const std::string& expected, const std::string& got) {
  throw BackendError("index.mindir: patch " + std::to_string(patch) + ": expected " + expected +
                     ", got " + got + "; check the model, or use --search portable");
}

}  // namespace

Shortlist::Shortlist(const MemoryBank& bank, const Layout& layout, std::size_t count,
                     std::size_t threads)
    : bank_(bank), index_(bank, layout, threads), count_(count), centre_(bank.Size()) {
  Measure();
}

// c, s, R and r: the same operations in the same order as patchcore_build.export.index_mindir.
void Shortlist::Measure() {
  for (std::size_t row = 0; row < bank_.rows; ++row) {
    const std::vector<float> whole = WholeRow(bank_, row);
    for (std::size_t i = 0; i < centre_.size(); ++i) centre_[i] += whole[i];
  }
  for (double& value : centre_) {
    value = static_cast<double>(static_cast<float>(value / static_cast<double>(bank_.rows)));
  }
  double farthest = 0;  // squared
  for (std::size_t row = 0; row < bank_.rows; ++row) {
    const std::vector<float> whole = WholeRow(bank_, row);
    double square = 0;
    for (std::size_t i = 0; i < centre_.size(); ++i) {
      const double side = whole[i] - centre_[i];
      square += side * side;
    }
    farthest = std::max(farthest, square);
  }
  int exponent = 0;
  std::frexp(std::sqrt(farthest), &exponent);
  if (farthest > 0) scale_ = std::ldexp(kLongest, -exponent);
  double longest = 0, error = 0;  // squared
  for (std::size_t row = 0; row < bank_.rows; ++row) {
    const std::vector<float> whole = WholeRow(bank_, row);
    double square = 0, gap = 0;
    for (std::size_t i = 0; i < centre_.size(); ++i) {
      const double exact = (whole[i] - centre_[i]) * scale_;
      const double half = ToHalf(exact);
      square += half * half;
      gap += (exact - half) * (exact - half);
    }
    longest = std::max(longest, square);
    error = std::max(error, gap);
  }
  longest_ = std::sqrt(longest);
  row_error_ = std::sqrt(error);
}

Queries Shortlist::Ask(const Layers& layers) const {
  Queries queries;
  queries.vectors = index_.PatchVectors(layers);
  const std::size_t size = centre_.size();  // D
  const std::size_t patches = queries.vectors.size() / size;
  queries.columns.shape = {static_cast<std::int64_t>(patches),
                           static_cast<std::int64_t>(columns())};
  queries.columns.values.assign(patches * columns(), 0.0F);
  queries.errors.assign(patches, 0);
  queries.lengths.assign(patches, std::numeric_limits<double>::infinity());
  for (std::size_t patch = 0; patch < patches; ++patch) {
    const float* vector = queries.vectors.data() + patch * size;
    float* line = queries.columns.values.data() + patch * columns();
    double square = 0, gap = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const double exact = (vector[i] - centre_[i]) * scale_;
      const double half = ToHalf(exact);
      line[i] = static_cast<float>(std::clamp(half, -65504.0, 65504.0));
      square += half * half;
      gap += (exact - half) * (exact - half);
    }
    if (!(std::sqrt(square) + longest_ < kLargestLength)) {  // NaN, too
      std::fill(line, line + size, 0.0F);
      continue;
    }
    queries.lengths[patch] = std::sqrt(square);
    queries.errors[patch] = std::sqrt(gap);
    const double upper = ToHalf(-square / 2);
    line[size] = static_cast<float>(upper);
    line[size + 1] = static_cast<float>(ToHalf(-square / 2 - upper));
    line[size + 2] = line[size + 3] = 1.0F;
  }
  return queries;
}

NearestRows Shortlist::Rank(const Queries& queries, const Candidates& candidates,
                            const Layers& layers) {
  const std::size_t patches = queries.lengths.size();
  NearestRows nearest{std::vector<float>(patches), std::vector<std::int64_t>(patches)};
  std::vector<std::size_t> open;
  for (std::size_t patch = 0; patch < patches; ++patch) {
    const Winner winner = Best(queries, candidates, patch);
    nearest.distances[patch] = winner.distance;
    nearest.rows[patch] = winner.row;
    if (!winner.proven) open.push_back(patch);
  }
  patches_ += patches;
  searched_ += open.size();
  if (open.empty()) return nearest;
  const NearestRows exact = index_.Nearest(layers);
  for (const std::size_t patch : open) {
    nearest.distances[patch] = exact.distances[patch];
    nearest.rows[patch] = exact.rows[patch];
  }
  return nearest;
}

// The largest possible error of a score, against -|q' - m'|²/2.
double Shortlist::Bound(double score, double length) const {
  const double magnitude = (length + longest_) * (length + longest_) / 2;  // A
  const double sums = static_cast<double>(columns()) * kFloatSum + kSplitSquare;
  return std::abs(score) * kHalfRounding + magnitude * sums + 3 * kSmallest;
}

Shortlist::Winner Shortlist::Best(const Queries& queries, const Candidates& candidates,
                                  std::size_t patch) const {
  const float* vector = queries.vectors.data() + patch * centre_.size();
  const double length = queries.lengths[patch];
  const double error = queries.errors[patch] + row_error_;
  const auto first = candidates.rows.begin() + static_cast<std::ptrdiff_t>(patch * count_);
  Winner best{std::numeric_limits<float>::infinity(), 0, std::isfinite(length)};
  double smallest = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < count_; ++i) {
    const double score = candidates.scores[patch * count_ + i];
    const std::int32_t row = first[static_cast<std::ptrdiff_t>(i)];
    if (!std::isfinite(score)) Refuse(patch, "finite scores", std::to_string(score));
    if (row < 0 || static_cast<std::size_t>(row) >= bank_.rows) {
      Refuse(patch, "rows 0 to " + std::to_string(bank_.rows - 1), std::to_string(row));
    }
    if (!best.proven) continue;  // the host searches
    if (std::find(first, first + static_cast<std::ptrdiff_t>(i), row) !=
        first + static_cast<std::ptrdiff_t>(i)) {
      Refuse(patch, "different rows", "row " + std::to_string(row) + " twice");
    }
    const float distance = index_.Distance(vector, static_cast<std::size_t>(row));
    const double scaled = static_cast<double>(distance) * scale_;
    const double bound = Bound(score, length);
    const double low = std::sqrt(std::max(0.0, 2 * (-score - bound))) - error;
    const double high = std::sqrt(std::max(0.0, 2 * (-score + bound))) + error;
    const double slack = scaled * kDistanceRounding;
    best.proven = low <= scaled + slack && scaled - slack <= high;  // false for NaN
    smallest = std::min(smallest, score);
    if (distance < best.distance || (distance == best.distance && row < best.row)) {
      best.distance = distance;
      best.row = row;
    }
  }
  if (count_ == bank_.rows) return best;  // no row is outside
  const double outside =
      std::sqrt(std::max(0.0, 2 * (-smallest - Bound(smallest, length)))) - error;
  const double nearest = static_cast<double>(best.distance) * scale_;
  best.proven = best.proven && nearest * (1 + 2 * kDistanceRounding) < outside;
  return best;
}

}  // namespace patchcore
