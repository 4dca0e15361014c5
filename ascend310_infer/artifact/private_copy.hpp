// A private copy of an artifact, so that the bytes that are verified are the bytes that are used;
// the twin of patchcore_runtime/artifact/private.py.
#pragma once

#include <filesystem>
#include <string_view>

namespace patchcore {

// A temporary folder that only this user can write; it is removed together with this object.
class PrivateCopy {
 public:
  // Throws ArtifactError: the temporary folder (TMPDIR) cannot be written.
  explicit PrivateCopy(const std::filesystem::path& source);
  ~PrivateCopy();
  PrivateCopy(const PrivateCopy&) = delete;
  PrivateCopy& operator=(const PrivateCopy&) = delete;

  const std::filesystem::path& folder() const { return folder_; }

  // Copies a file; a missing one is left out unless it is required.
  // Throws ArtifactError: it cannot be read, is no regular file of the artifact, or has no space.
  void Take(std::string_view name, bool required) const;

 private:
  std::filesystem::path source_, place_, folder_;
};

}  // namespace patchcore
