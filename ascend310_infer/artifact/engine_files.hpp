// An artifact -> the files and settings that an engine needs.
#pragma once

#include "artifact/folder.hpp"
#include "engine/backend.hpp"

namespace patchcore {

EngineFiles EngineFilesOf(const Artifact& artifact);

}  // namespace patchcore
