#include "scoring/gate.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "messages.hpp"

namespace patchcore {
namespace {

constexpr float kNextToZero = 0.01F;  // of an image's largest distance

double LowerMedian(std::vector<float> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  return static_cast<double>(*middle);
}

std::size_t CountDifferent(std::vector<std::int64_t> values) {
  std::sort(values.begin(), values.end());
  return static_cast<std::size_t>(std::unique(values.begin(), values.end()) - values.begin());
}

}  // namespace

GateValues MeasureGate(const std::vector<float>& distances, const std::vector<std::int64_t>& rows,
                       const std::vector<std::uint8_t>& counts) {
  float largest = 0;
  for (std::size_t patch = 0; patch < distances.size(); ++patch) {
    if (counts.empty() || counts[patch] != 0) largest = std::max(largest, distances[patch]);
  }
  std::vector<float> apart;
  std::vector<std::int64_t> nearest;
  for (std::size_t patch = 0; patch < distances.size(); ++patch) {
    if (!counts.empty() && counts[patch] == 0) continue;
    nearest.push_back(rows[patch]);
    if (distances[patch] > kNextToZero * largest) apart.push_back(distances[patch]);
  }
  return {LowerMedian(std::move(apart)), CountDifferent(std::move(nearest))};
}

std::vector<std::string> Strangeness(const std::optional<Gate>& gate, const GateValues& values) {
  std::vector<std::string> found;
  if (!gate) return found;
  if (values.rows < gate->fewest_rows) {
    found.push_back("most of what was learned is missing: " + std::to_string(values.rows) +
                    " rows of the memory bank are nearest to a patch, in good images about " +
                    std::to_string(gate->usual_rows) + ", expected at least " +
                    std::to_string(gate->fewest_rows));
  }
  if (values.distance > gate->largest_distance) {
    found.push_back("nothing looks as learned: the median patch distance is " +
                    NumberText(values.distance, 4) + ", in good images about " +
                    NumberText(gate->usual_distance, 4) + ", expected at most " +
                    NumberText(gate->largest_distance, 4));
  }
  return found;
}

}  // namespace patchcore
