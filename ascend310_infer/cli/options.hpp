// argv -> what the command is to do.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "detector.hpp"

namespace patchcore {

// The command line cannot be understood; main() prints the reason and returns 2.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Options {
  std::string answer;  // the text of --help or --version; not empty: print it and do nothing else
  std::string artifact;
  std::vector<std::string> sources;  // images and folders
  std::string public_key;            // PEM; empty: signatures are not looked at
  std::string maps;                  // folder for maps; empty: none are written
  std::string csv;                   // file for the table; empty: none is written
  std::string roi;                   // a mask of what counts; empty: as the artifact says
  BackendOptions backend;
  Wanted wanted;  // thresholds in place of the artifact's
  Search search = Search::kAuto;
  std::size_t batch = 1;  // images that go through the network together
  bool regions = false;   // describe the areas above the pixel threshold
  bool selftest = false;
  bool is_private = false;  // copy the artifact first, and use the copy
  bool timings = false;
};

// Throws UsageError.
Options ParseOptions(const std::vector<std::string>& arguments);

}  // namespace patchcore
