// An artifact -> what an engine needs of it.
#pragma once

#include "artifact/folder.hpp"
#include "engine/backend.hpp"

namespace patchcore {

EngineFiles EngineFilesOf(const Artifact& artifact);

}  // namespace patchcore
