#include "search/hnsw_index.hpp"

#include "errors.hpp"

#if defined(PATCHCORE_HNSW)

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "function_clones.hpp"
#include "search/hnsw_file.hpp"
#include "threads.hpp"

// The flags of this build limit the speed of hnswlib's own distances; the function below uses what
// the processor offers.
#define NO_MANUAL_VECTORIZATION
#include <hnswlib/hnswlib.h>

namespace patchcore {
namespace {

constexpr std::size_t kWide = 16;
using Wide [[gnu::vector_size(kWide * sizeof(float))]] = float;

// |left - right|², in one order of summation for all rows.
//   size       pointer to D, a std::size_t
PATCHCORE_CLONED
float SquaredDistance(const void* left, const void* right, const void* size) {
  const auto* one = static_cast<const float*>(left);
  const auto* other = static_cast<const float*>(right);
  const std::size_t count = *static_cast<const std::size_t*>(size);
  Wide sums{};
  std::size_t i = 0;
  for (; i + kWide <= count; i += kWide) {
    Wide first, second;
    std::memcpy(&first, one + i, sizeof(Wide));
    std::memcpy(&second, other + i, sizeof(Wide));
    const Wide difference = first - second;
    sums += difference * difference;
  }
  float sum = 0;
  for (std::size_t lane = 0; lane < kWide; ++lane) sum += sums[lane];
  for (; i < count; ++i) sum += (one[i] - other[i]) * (one[i] - other[i]);
  return sum;
}

// The interface that hnswlib needs: the size of a vector, and the distance of two.
class RowSpace : public hnswlib::SpaceInterface<float> {
 public:
  explicit RowSpace(std::size_t size) : size_(size) {}
  std::size_t get_data_size() override { return size_ * sizeof(float); }
  hnswlib::DISTFUNC<float> get_dist_func() override { return SquaredDistance; }
  void* get_dist_func_param() override { return &size_; }

 private:
  std::size_t size_;  // D
};

class Graph : public HnswIndex {
 public:
  Graph(const Artifact& artifact, std::size_t threads)
      : size_(artifact.bank().Size()),
        threads_(std::max<std::size_t>(1, threads)),
        exact_(artifact.bank(), artifact.manifest().layout(), threads),
        space_(size_),
        graph_(&space_, artifact.Path(kIndexHnsw).string(), false, artifact.bank().rows) {
    graph_.num_deleted_ = 0;  // hnswlib 0.6 does not set it when it loads; the file has none
    graph_.setEf(artifact.manifest().index.effort);
  }

  NearestRows Nearest(const Layers& layers) const override {
    const std::vector<float> vectors = exact_.PatchVectors(layers);
    const std::size_t patches = vectors.size() / size_;
    NearestRows nearest{std::vector<float>(patches), std::vector<std::int64_t>(patches)};
    InShares(patches, threads_, [&](std::size_t first, std::size_t last, std::size_t) {
      for (std::size_t patch = first; patch < last; ++patch) {
        const float* vector = vectors.data() + patch * size_;
        const std::size_t row = graph_.searchKnn(vector, 1).top().second;
        nearest.rows[patch] = static_cast<std::int64_t>(row);
        nearest.distances[patch] = exact_.Distance(vector, row);
      }
    });
    return nearest;
  }

 private:
  std::size_t size_;  // D
  std::size_t threads_;
  PortableIndex exact_;  // brings layers to the patch grid and measures the winners
  RowSpace space_;
  hnswlib::HierarchicalNSW<float> graph_;
};

}  // namespace

std::unique_ptr<HnswIndex> OpenHnswIndex(const Artifact& artifact, std::size_t threads) {
  CheckHnswFile(artifact.Path(kIndexHnsw), artifact.bank());
  try {
    return std::make_unique<Graph>(artifact, threads);
  } catch (const std::runtime_error& error) {
    throw ArtifactError(artifact.Path(kIndexHnsw).string() + ": hnswlib cannot load it (" +
                        error.what() + ")");
  }
}

}  // namespace patchcore

#else

namespace patchcore {

std::unique_ptr<HnswIndex> OpenHnswIndex(const Artifact& artifact, std::size_t) {
  throw BackendError(artifact.Path(kIndexHnsw).string() +
                     ": this program was built without hnswlib; configure it with "
                     "-DPATCHCORE_HNSW=ON (Debian: libhnswlib-dev), or take --search exact");
}

}  // namespace patchcore

#endif
