// Open, read and map files; the only place that opens files for reading; the twin of
// patchcore_runtime/files/regular.py.
//
// A pipe or a device of that name could block a reader for ever, a sparse file could fill the
// memory, and a link could lead out of an artifact.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace patchcore {

// Why a file is refused; the caller adds the path and the advice.
class FileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class MissingFileError : public FileError {
 public:
  using FileError::FileError;
};

// Which links are followed: all, or, as in an artifact, those to files of the path's own folder.
enum class Links { kAll, kOwnFolder };

inline constexpr std::uint64_t kAnySize = std::numeric_limits<std::uint64_t>::max();

// An open regular file, closed at the end of its scope; read from its first byte to its last.
class RegularFile {
 public:
  //   limit   largest accepted size in bytes
  // Throws MissingFileError; FileError: it cannot be read, is too large, or is a folder, a pipe, a
  // device or a refused link.
  explicit RegularFile(const std::filesystem::path& path, std::uint64_t limit = kAnySize,
                       Links links = Links::kAll);
  ~RegularFile();
  RegularFile(const RegularFile&) = delete;
  RegularFile& operator=(const RegularFile&) = delete;

  int descriptor() const { return descriptor_; }
  std::uint64_t size() const { return size_; }  // when it was opened

  // Reads up to `size` bytes; returns how many there were.
  // Throws FileError: the device fails.
  std::size_t Read(void* target, std::size_t size);

 private:
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

// Throws FileError: the path is a link to a file outside of its folder.
void RefuseLinkOut(const std::filesystem::path& path);

// The whole file. Throws as RegularFile, and FileError: the file changed while it was read.
std::string ReadRegular(const std::filesystem::path& path, std::uint64_t limit,
                        Links links = Links::kAll);

// A file mapped into memory, read-only; empty for an empty file. Copies share the mapping.
class MappedFile {
 public:
  MappedFile() = default;
  // Throws as RegularFile, and FileError: the system cannot map it.
  explicit MappedFile(const RegularFile& file);

  std::string_view bytes() const { return {static_cast<const char*>(pages_.get()), size_}; }
  std::shared_ptr<const void> pages() const { return pages_; }

 private:
  std::size_t size_ = 0;
  std::shared_ptr<const void> pages_;
};

}  // namespace patchcore
