// The result of one image -> its JSON line and its line of the table; the twin of the rows of
// patchcore_runtime/cli/score.py and table.py.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "detector.hpp"
#include "explain/regions.hpp"

namespace patchcore {

struct Row {
  std::string image;  // its path as it is printed
  std::string error;  // why it has no result; empty: it has one
  Result result;
  std::string note;                                   // an image that is almost black; or empty
  std::string map;                                    // path of the heat map; empty: none
  std::optional<std::vector<AnomalyRegion>> regions;  // on request only
};

// With a line feed, as json.dumps of Python writes it.
std::string JsonLine(const Row& row);

// With CR LF, as Python's csv module writes it. A text that a spreadsheet would execute begins with
// an apostrophe; numbers never do.
std::string CsvLine(const Row& row);
std::string CsvHeader();

}  // namespace patchcore
