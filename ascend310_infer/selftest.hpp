// Run an artifact's own self-test on this machine: stored image -> differences from the stored
// input, features, map and score.
//
// The twin of patchcore_runtime/selftest.py. Preprocessing must agree to the byte; features, map
// and score must agree within the manifest's relative tolerances.
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

// Scores the stored image and compares each stage; the steps are `input`, `features`,
// `map` and `score`.
// Throws ArtifactError: a self-test file is missing, unreadable or of the wrong shape.
std::vector<SelfTestStep> RunSelfTest(const Artifact& artifact, Detector& detector);

}  // namespace patchcore
