#include "explain/contours.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <set>
#include <tuple>
#include <utility>

namespace patchcore {
namespace {

// A vertical side of a run: R left ones, which lead up, then R right ones, which lead down.
struct Edge {
  std::size_t row, x;
  bool right;
};

Edge EdgeOf(const std::vector<Run>& runs, std::size_t edge) {
  const bool right = edge >= runs.size();
  const Run& run = runs[edge % runs.size()];
  return {run.row, right ? run.stop : run.start, right};
}

// The successor of each edge, (2R,).
std::vector<std::size_t> NextEdges(const std::vector<Run>& runs) {
  const std::size_t edges = 2 * runs.size();
  // Each edge has an upper end on line `row` and, 2R further, a lower one on the next line.
  const auto place = [&](std::size_t end) {
    const Edge edge = EdgeOf(runs, end % edges);
    // If pixels touch only at a corner, the left edge's end comes first, which joins them.
    return std::make_tuple(edge.row + (end >= edges ? 1 : 0), edge.x, edge.right, end);
  };
  std::vector<std::size_t> order(2 * edges);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t one, std::size_t other) { return place(one) < place(other); });
  std::vector<std::size_t> mate(2 * edges);
  for (std::size_t i = 0; i < order.size(); i += 2) {
    mate[order[i]] = order[i + 1];
    mate[order[i + 1]] = order[i];
  }
  std::vector<std::size_t> next(edges);
  for (std::size_t edge = 0; edge < edges; ++edge) {
    next[edge] = mate[edge >= runs.size() ? edge + edges : edge] % edges;
  }
  return next;
}

// The members of a ring that `wanted` accepts, by its neighbours (before, here, after).
template <typename Wanted>
Polygon Kept(const Polygon& ring, const Wanted& wanted) {
  Polygon kept;
  for (std::size_t i = 0; i < ring.size(); ++i) {
    const auto& before = ring[(i + ring.size() - 1) % ring.size()];
    if (wanted(before, ring[i], ring[(i + 1) % ring.size()])) kept.push_back(ring[i]);
  }
  return kept;
}

using Corner = Polygon::value_type;

bool Turns(const Corner& before, const Corner& here, const Corner& after) {
  const auto step = [](const Corner& from, const Corner& to, std::size_t side) {
    return static_cast<std::int64_t>(to[side]) - static_cast<std::int64_t>(from[side]);
  };
  return step(before, here, 0) * step(here, after, 1) !=
         step(before, here, 1) * step(here, after, 0);
}

struct Point {
  double y, x;
};

// Distance of a point to the line segment between two others, rounded as NumPy rounds it.
double Distance(const Point& point, const Point& one, const Point& other) {
  const Point along{other.y - one.y, other.x - one.x};
  const Point from{point.y - one.y, point.x - one.x};
  const double length = std::max(along.y * along.y + along.x * along.x, 1e-12);
  const double share = std::clamp((from.y * along.y + from.x * along.x) / length, 0.0, 1.0);
  const Point gap{from.y - share * along.y, from.x - share * along.x};
  return std::sqrt(gap.y * gap.y + gap.x * gap.x);
}

}  // namespace

std::vector<Polygon> OuterContours(const std::vector<Run>& runs,
                                   const std::vector<std::size_t>& firsts) {
  const std::vector<std::size_t> next = NextEdges(runs);
  std::vector<Polygon> contours;
  for (const std::size_t first : firsts) {
    Polygon ring;
    std::size_t at = first;
    do {
      const Edge edge = EdgeOf(runs, at), following = EdgeOf(runs, next[at]);
      // The end of an edge, then the beginning of the next edge on the same line.
      ring.push_back({edge.row + (edge.right ? 1 : 0), edge.x});
      ring.push_back({following.row + (following.right ? 0 : 1), following.x});
      at = next[at];
    } while (at != first);
    ring = Kept(ring, [](const Corner& before, const Corner& here, const Corner&) {
      return before != here;
    });
    contours.push_back(Kept(ring, Turns));
  }
  return contours;
}

Polygon Simplified(Polygon polygon, double tolerance_px) {
  const std::size_t count = polygon.size();
  if (count <= 4) return polygon;
  const auto point = [&](std::size_t i) {
    const Corner& corner = polygon[i % count];
    return Point{static_cast<double>(corner[0]), static_cast<double>(corner[1])};
  };
  const auto squared = [&](std::size_t i) {
    const double y = point(i).y - point(0).y, x = point(i).x - point(0).x;
    return y * y + x * x;
  };
  std::size_t far = 0;
  for (std::size_t i = 1; i < count; ++i) far = squared(i) > squared(far) ? i : far;
  std::set<std::size_t> kept{0, far};
  std::vector<std::pair<std::size_t, std::size_t>> waiting{{0, far}, {far, count}};
  while (!waiting.empty()) {
    const auto [first, last] = waiting.back();
    waiting.pop_back();
    double largest = -1;
    std::size_t middle = first;
    for (std::size_t i = first + 1; i < last; ++i) {
      const double away = Distance(point(i), point(first), point(last));
      if (away > largest) largest = away, middle = i;
    }
    if (middle == first) continue;
    if (largest > tolerance_px || (last == count && kept.size() < 3)) {
      kept.insert(middle);
      waiting.emplace_back(first, middle);
      waiting.emplace_back(middle, last);
    }
  }
  Polygon simplified;
  for (const std::size_t i : kept) simplified.push_back(polygon[i]);
  return simplified;
}

}  // namespace patchcore
