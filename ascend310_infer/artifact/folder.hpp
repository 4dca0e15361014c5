// An artifact folder: names of its files, checksums, manifest and memory bank; the twin of
// patchcore_runtime/artifact/folder.py.
//
// folder -> Artifact, or ArtifactError naming the file. Read-only; artifacts/FORMAT.md defines it.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "artifact/private_copy.hpp"
#include "bank/memory_bank.hpp"
#include "manifest/manifest.hpp"

namespace patchcore {

inline constexpr std::string_view kManifestFile = "manifest.json";
inline constexpr std::string_view kFeaturesOnnx = "features.onnx";
inline constexpr std::string_view kFeaturesMindir = "features.mindir";
inline constexpr std::string_view kIndexOnnx = "index.onnx";
inline constexpr std::string_view kIndexMindir = "index.mindir";
inline constexpr std::string_view kIndexHnsw = "index.hnsw";
inline constexpr std::string_view kIndexFaiss = "index.faiss";  // of all kinds kFaiss*
inline constexpr std::string_view kRoiFile = "roi.png";
inline constexpr std::string_view kThumbnails = "thumbnails.bin";
inline constexpr std::string_view kMemoryBankFile = "memory_bank.bin";
inline constexpr std::string_view kSelftestImage = "selftest.png";
inline constexpr std::string_view kSelftestInput = "selftest_input.png";
inline constexpr std::string_view kSelftestMap = "selftest_map.npy";
inline constexpr std::string_view kSha256Sums = "SHA256SUMS";

// An open artifact; it is cheap to copy except for the manifest's lists.
class Artifact {
 public:
  // Reads the manifest, checks the files that scoring uses against SHA256SUMS (unless `verify` is
  // false), maps the bank and compares its shape with the manifest. With a public key (the path of
  // a PEM file) files are always checked, and sums count only as signed by it.
  // Throws ArtifactError: a file is missing, altered or of an unknown version. Throws
  // SignatureError: that key did not sign it.
  // A private artifact is copied into a temporary folder first; the copies are checked and used.
  static Artifact Open(const std::filesystem::path& folder, bool verify = true,
                       const std::filesystem::path& public_key = {}, bool is_private = false);

  const Manifest& manifest() const { return manifest_; }
  const MemoryBank& bank() const { return bank_; }
  const std::filesystem::path& folder() const { return folder_; }

  // The path of one of the files.
  std::filesystem::path Path(std::string_view name) const { return folder_ / name; }

  // Every file of this artifact except SHA256SUMS; the manifest determines which.
  std::vector<std::string_view> Files() const;

  // Compares every file of the artifact with SHA256SUMS, and reads each once.
  void Verify() const;
  // Compares only these files, for instance those of one engine.
  void Verify(const std::vector<std::string_view>& names) const;

 private:
  Artifact() = default;

  std::shared_ptr<const PrivateCopy> copy_;  // owns the folder, if the artifact is private
  std::filesystem::path folder_;
  std::filesystem::path public_key_;  // empty: none
  Manifest manifest_;
  MemoryBank bank_;
};

// SHA-256 of a file, in 64 lower-case hexadecimal digits.
// Throws ArtifactError: the file cannot be read.
std::string FileDigest(const std::filesystem::path& path);

}  // namespace patchcore
