// Images and folders -> JSON lines, maps, a table; the twin of patchcore_runtime/cli/score.py.
#pragma once

#include "artifact/folder.hpp"
#include "cli/options.hpp"
#include "detector.hpp"

namespace patchcore {

// One complaint on stderr, on a line of its own.
void Complain(const std::string& reason);

// Loads the detector that the options ask for.
Detector LoadDetector(const Artifact& artifact, const Options& options);

// Complains if another search replaces the artifact's own kind of index.
void NoteKind(const Detector& detector, const Options& options);

// Prints a line for each image and returns the exit code.
// Throws Error: nothing was scored, because the artifact, the list of images or a place to write to
// is refused; or standard output or the table cannot be written.
int ScoreImages(Options options);

}  // namespace patchcore
