#include "files/regular.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace patchcore {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void Refuse(int code) {
  if (code == ENOENT) throw MissingFileError(std::strerror(code));
  throw FileError(std::strerror(code));
}

}  // namespace

RegularFile::RegularFile(const fs::path& path, std::uint64_t limit, Links links) {
  if (links == Links::kOwnFolder) RefuseLinkOut(path);
  descriptor_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) Refuse(errno);
  struct stat status {};
  std::string refusal;
  if (fstat(descriptor_, &status) != 0) {
    refusal = std::strerror(errno);
  } else if (S_ISDIR(status.st_mode)) {
    refusal = std::strerror(EISDIR);
  } else if (!S_ISREG(status.st_mode)) {
    refusal = "Not a regular file";
  } else if (static_cast<std::uint64_t>(status.st_size) > limit) {
    refusal = "larger than " + std::to_string(limit) + " bytes";
  }
  if (!refusal.empty()) {
    close(descriptor_);
    throw FileError(refusal);
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

RegularFile::~RegularFile() { close(descriptor_); }

std::size_t RegularFile::Read(void* target, std::size_t size) {
  std::size_t done = 0;
  while (done < size) {
    const ssize_t got = read(descriptor_, static_cast<char*>(target) + done, size - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) Refuse(errno);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

void RefuseLinkOut(const fs::path& path) {
  std::error_code error;
  const fs::path target = fs::canonical(path, error);
  if (error) return;  // opening it gives the reason
  const fs::path folder = path.has_parent_path() ? path.parent_path() : ".";
  if (target.parent_path() == fs::canonical(folder, error)) return;
  throw FileError("expected a file of the folder, got a link to " + target.string() +
                  ", which cp -L would copy");
}

std::string ReadRegular(const fs::path& path, std::uint64_t limit, Links links) {
  RegularFile file(path, limit, links);
  std::string content(static_cast<std::size_t>(file.size()), '\0');
  char more = 0;
  if (file.Read(content.data(), content.size()) != content.size() || file.Read(&more, 1) != 0) {
    throw FileError("changed while it was read");
  }
  return content;
}

MappedFile::MappedFile(const RegularFile& file) : size_(static_cast<std::size_t>(file.size())) {
  if (size_ == 0) return;
  const std::size_t size = size_;
  void* pages = mmap(nullptr, size, PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (pages == MAP_FAILED) Refuse(errno);
  pages_ = {pages, [size](const void* at) { munmap(const_cast<void*>(at), size); }};
}

}  // namespace patchcore
