#include "explain/regions.hpp"

#include <algorithm>
#include <utility>

namespace patchcore {
namespace {

constexpr double kTolerancePx = 1;  // largest distance of a simplified contour from the exact one

// The runs of the pixels above the threshold, in reading order.
std::vector<Run> RunsAbove(const std::vector<float>& map, std::size_t height, std::size_t width,
                           float threshold) {
  std::vector<Run> runs;
  for (std::size_t y = 0; y < height; ++y) {
    const float* row = map.data() + y * width;
    for (std::size_t x = 0; x < width; ++x) {
      if (!(row[x] > threshold)) continue;
      const std::size_t start = x;
      while (x < width && row[x] > threshold) ++x;
      runs.push_back({y, start, x});
    }
  }
  return runs;
}

std::size_t Root(std::vector<std::size_t>& label, std::size_t run) {
  while (label[run] != run) run = label[run] = label[label[run]];
  return run;
}

// The first run of each run's region. Both pointers only advance, since the runs of a row do not
// touch each other.
std::vector<std::size_t> FirstRuns(const std::vector<Run>& runs) {
  std::vector<std::size_t> label(runs.size());
  std::size_t upper = 0;
  for (std::size_t lower = 0; lower < runs.size(); ++lower) {
    label[lower] = lower;
    const Run& run = runs[lower];
    while (runs[upper].row + 1 < run.row) ++upper;
    const auto above = [&](std::size_t at) { return runs[at].row + 1 == run.row; };
    while (above(upper) && runs[upper].stop < run.start) ++upper;
    for (std::size_t at = upper; above(at) && runs[at].start <= run.stop; ++at) {
      const std::size_t one = Root(label, at), other = Root(label, lower);
      label[std::max(one, other)] = std::min(one, other);
    }
  }
  for (std::size_t run = 0; run < runs.size(); ++run) label[run] = Root(label, run);
  return label;
}

void Extend(AnomalyRegion& region, const Run& run, const float* row) {
  region.box[1] = std::min(region.box[1], run.start);
  region.box[2] = std::max(region.box[2], run.row + 1);
  region.box[3] = std::max(region.box[3], run.stop);
  const float* highest = std::max_element(row + run.start, row + run.stop);
  if (region.area == 0 || *highest > region.peak_value) {
    region.peak = {run.row, static_cast<std::size_t>(highest - row)};
    region.peak_value = *highest;
  }
  region.area += run.stop - run.start;
}

}  // namespace

std::vector<AnomalyRegion> FindRegions(const std::vector<float>& map, std::size_t height,
                                       std::size_t width, double threshold) {
  const std::vector<Run> runs = RunsAbove(map, height, width, static_cast<float>(threshold));
  const std::vector<std::size_t> label = FirstRuns(runs);
  std::vector<std::size_t> firsts, number(runs.size());
  std::vector<AnomalyRegion> regions;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (label[i] == i) {
      number[i] = regions.size();
      firsts.push_back(i);
      regions.emplace_back();
      regions.back().box = {runs[i].row, width, 0, 0};
    }
    Extend(regions[number[label[i]]], runs[i], map.data() + runs[i].row * width);
  }
  std::vector<Polygon> contours = OuterContours(runs, firsts);
  for (std::size_t i = 0; i < regions.size(); ++i) {
    regions[i].contour = Simplified(std::move(contours[i]), kTolerancePx);
  }
  std::stable_sort(regions.begin(), regions.end(),
                   [](const AnomalyRegion& one, const AnomalyRegion& other) {
                     return one.peak_value > other.peak_value;
                   });
  return regions;
}

}  // namespace patchcore
