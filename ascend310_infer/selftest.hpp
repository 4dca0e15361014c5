// Run an artifact's own self-test here: stored picture -> the stored input, features, map
// and score?
//
// The twin of selftest.py. Preprocessing must agree to the byte; features, map and score within
// the manifest's relative tolerances.
#pragma once

#include <string>
#include <vector>

#include "detector.hpp"

namespace patchcore {

// One stage compared with what the artifact stores.
struct SelfTestStep {
  std::string name;
  double difference = 0;  // of `input` in grey levels, else relative to what is stored
  double tolerance = 0;

  bool Passed() const { return difference <= tolerance; }
};

// Scores the stored picture and compares each stage; the steps are `input`, `features`,
// `map` and `score`.
// Throws ArtifactError: a self-test file is missing, unreadable or of the wrong shape.
std::vector<SelfTestStep> RunSelfTest(const Artifact& artifact, Detector& detector);

}  // namespace patchcore
