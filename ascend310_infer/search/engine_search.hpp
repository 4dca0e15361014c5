// The exact search by an engine: index.onnx as it is, or index.mindir's list, which the host ranks.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "bank/memory_bank.hpp"
#include "engine/backend.hpp"
#include "search/npu_shortlist.hpp"
#include "tensor.hpp"

namespace patchcore {

// Safe to share between threads only if the backend runs concurrently.
class EngineSearch {
 public:
  // The backend and the bank's sections must outlive this object.
  //   threads    of the host's part of the search
  EngineSearch(Backend& backend, const MemoryBank& bank, const Layout& layout, std::size_t threads);

  // Whether this engine has a search at all.
  static bool Serves(const Backend& backend);

  // The nearest row of every patch, as PortableIndex gives it, within the engine's rounding.
  //   layers     (1, C_i, h/s_i, w/s_i) each
  // Throws BackendError: the engine failed, has no search, or gave an impossible list.
  NearestRows Nearest(const Layers& layers);

  // One line about the search so far, for people; empty if there is nothing to report.
  std::string Note() const;

 private:
  Backend& backend_;
  std::unique_ptr<Shortlist> shortlist_;  // none where the engine gives the nearest rows itself
};

}  // namespace patchcore
