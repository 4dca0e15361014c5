#include "artifact/folder.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "artifact/signature.hpp"
#include "artifact/sums.hpp"
#include "errors.hpp"
#include "files/regular.hpp"
#include "messages.hpp"

namespace patchcore {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxTextBytes = std::size_t{1} << 26;  // of manifest.json and SHA256SUMS
constexpr std::size_t kHashBlock = std::size_t{1} << 20;

[[noreturn]] void RefuseFile(const fs::path& path, const FileError& error) {
  throw ArtifactError(path.string() + ": " + error.what() + "; copy the folder again");
}

std::string ReadText(const fs::path& path) {
  try {
    return ReadRegular(path, kMaxTextBytes, Links::kOwnFolder);
  } catch (const FileError& error) {
    RefuseFile(path, error);
  }
}

// File name -> digest, from the lines of SHA256SUMS.
// With a key, the same bytes are parsed whose signature was checked.
std::map<std::string, std::string, std::less<>> ReadSums(const fs::path& path,
                                                         const fs::path& public_key) {
  const std::string text = ReadText(path);
  if (!public_key.empty()) CheckSignature(text, path, public_key);
  return ParseSums(text, path.string());
}

// The shape of a bank as Python shows it: "(38, 9, (8, 12), 'float32')".
std::string ShapeText(std::size_t rows, std::size_t neighbours,
                      const std::vector<std::size_t>& channels, BankPrecision precision) {
  std::string text;
  for (const std::size_t count : channels) {
    text += (text.empty() ? "" : ", ") + std::to_string(count);
  }
  if (channels.size() == 1) text += ",";
  return "(" + std::to_string(rows) + ", " + std::to_string(neighbours) + ", (" + text + "), '" +
         (precision == BankPrecision::kFloat32 ? "float32" : "float16") + "')";
}

void CheckShape(const MemoryBank& bank, const Manifest& manifest, const std::string& where) {
  const Bank& told = manifest.memory_bank;
  std::vector<std::size_t> expected, got;
  for (const Layer& layer : manifest.features.layers) expected.push_back(layer.channels);
  for (const MemoryBank::Part& layer : bank.layers) got.push_back(layer.channels);
  if (bank.rows == told.rows && bank.neighbour_count == told.neighbours && got == expected &&
      bank.precision == told.precision) {
    return;
  }
  throw ArtifactError(where + ": (M, K, channels, precision): manifest.json says " +
                      ShapeText(told.rows, told.neighbours, expected, told.precision) +
                      ", the file has " +
                      ShapeText(bank.rows, bank.neighbour_count, got, bank.precision) +
                      "; the files belong to different artifacts, copy the folder again");
}

}  // namespace

Artifact Artifact::Open(const fs::path& folder, bool verify, const fs::path& public_key,
                        bool is_private) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    throw ArtifactError(folder.string() + ": no such folder; expected a PatchCore artifact");
  }
  Artifact artifact;
  artifact.folder_ = folder;
  if (is_private) {
    artifact.copy_ = std::make_shared<const PrivateCopy>(folder);
    for (const std::string_view name : {kManifestFile, kSha256Sums}) {
      artifact.copy_->Take(name, true);
    }
    artifact.copy_->Take(std::string(kSha256Sums) + ".sig", false);
    artifact.folder_ = artifact.copy_->folder();
  }
  artifact.public_key_ = public_key;
  // Unsigned bytes are never parsed.
  if (!public_key.empty()) artifact.Verify({kManifestFile});
  const fs::path manifest = artifact.Path(kManifestFile);
  artifact.manifest_ = ParseManifest(ReadText(manifest), manifest.string());
  std::vector<std::string_view> used{kManifestFile, kFeaturesOnnx, kIndexOnnx, kMemoryBankFile};
  if (artifact.manifest_.index.kind == IndexKind::kHnsw) used.push_back(kIndexHnsw);
  if (artifact.manifest_.region.kind == RegionKind::kMask) used.push_back(kRoiFile);
  if (is_private) {
    for (const std::string_view name : used) artifact.copy_->Take(name, true);
    for (const std::string_view name : artifact.Files()) {
      const bool copied = std::find(used.begin(), used.end(), name) != used.end();
      if (!copied) artifact.copy_->Take(name, false);
    }
  }
  if (verify || is_private || !public_key.empty()) artifact.Verify(used);
  const fs::path bank = artifact.Path(kMemoryBankFile);
  artifact.bank_ = ReadMemoryBank(bank);
  CheckShape(artifact.bank_, artifact.manifest_, bank.string());
  return artifact;
}

std::vector<std::string_view> Artifact::Files() const {
  std::vector<std::string_view> files{kManifestFile,  kFeaturesOnnx,  kIndexOnnx,  kMemoryBankFile,
                                      kSelftestImage, kSelftestInput, kSelftestMap};
  if (manifest_.features.has_mindir) files.push_back(kFeaturesMindir);
  if (manifest_.index.mindir_candidates > 0) files.push_back(kIndexMindir);
  if (manifest_.index.kind == IndexKind::kHnsw) {
    files.push_back(kIndexHnsw);
  } else if (manifest_.index.kind != IndexKind::kExact) {
    files.push_back(kIndexFaiss);
  }
  if (manifest_.region.kind == RegionKind::kMask) files.push_back(kRoiFile);
  if (manifest_.training.thumbnails == Thumbnails::kJpeg) files.push_back(kThumbnails);
  return files;
}

void Artifact::Verify() const { Verify(Files()); }

void Artifact::Verify(const std::vector<std::string_view>& names) const {
  const fs::path path = Path(kSha256Sums);
  const auto sums = ReadSums(path, public_key_);
  for (const std::string_view name : names) {
    const auto line = sums.find(name);
    if (line == sums.end()) {
      throw ArtifactError(path.string() + ": " + std::string(name) +
                          " is not listed; copy it again");
    }
    const std::string got = FileDigest(Path(name));
    if (got != line->second) {
      throw ArtifactError(Path(name).string() + ": altered: SHA256SUMS says " +
                          Printable(line->second, 12) + "…, the file has " + got.substr(0, 12) +
                          "…; copy the folder again");
    }
  }
}

std::string FileDigest(const fs::path& path) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  bool computed = context && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1;
  try {
    RegularFile file(path, kAnySize, Links::kOwnFolder);
    std::vector<char> block(kHashBlock);
    for (std::size_t length = block.size(); computed && length == block.size();) {
      length = file.Read(block.data(), block.size());
      computed = EVP_DigestUpdate(context.get(), block.data(), length) == 1;
    }
  } catch (const FileError& error) {
    RefuseFile(path, error);
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int length = 0;
  if (!computed || EVP_DigestFinal_ex(context.get(), digest.data(), &length) != 1) {
    throw ArtifactError(path.string() + ": libcrypto has no SHA-256 here; see its configuration");
  }
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (unsigned int i = 0; i < length; ++i) {
    text += kDigits[digest[i] >> 4];
    text += kDigits[digest[i] & 15];
  }
  return text;
}

}  // namespace patchcore
