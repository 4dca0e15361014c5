#include "search/engine_search.hpp"

namespace patchcore {

EngineSearch::EngineSearch(Backend& backend, const MemoryBank& bank, const Layout& layout,
                           std::size_t threads)
    : backend_(backend) {
  if (backend.ListedRows() == 0) return;
  shortlist_ = std::make_unique<Shortlist>(bank, layout, backend.ListedRows(), threads);
}

bool EngineSearch::Serves(const Backend& backend) {
  return backend.HasSearch() || backend.ListedRows() > 0;
}

NearestRows EngineSearch::Nearest(const Layers& layers) {
  if (!shortlist_) return backend_.Nearest(layers);
  const Queries queries = shortlist_->Ask(layers);
  return shortlist_->Rank(queries, backend_.List(queries.columns), layers);
}

std::string EngineSearch::Note() const {
  if (!shortlist_) return "";
  return "the device's shortlist decided " +
         std::to_string(shortlist_->patches() - shortlist_->searched()) + " patches, the host " +
         std::to_string(shortlist_->searched());
}

}  // namespace patchcore
