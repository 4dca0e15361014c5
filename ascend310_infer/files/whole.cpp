#include "files/whole.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <system_error>

#include "errors.hpp"

namespace patchcore {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLongestName = 64;  // of the final name; file systems allow 255 bytes

[[noreturn]] void Refuse(const fs::path& path, int reason) {
  throw Error(path.string() + ": cannot be written (" + std::strerror(reason) +
              "); choose another place or free the disk");
}

fs::path FolderOf(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

// A name that no other file has, not even one of another process or a planted link.
fs::path UnusedName(const fs::path& path) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::random_device source;
  std::string digits;
  for (int i = 0; i < 16; ++i) digits += kDigits[source() % 16];
  return FolderOf(path) /
         ("." + path.filename().string().substr(0, kLongestName) + "." + digits + ".part");
}

// A new file beside `path`, removed with this object unless it was renamed.
class Unfinished {
 public:
  explicit Unfinished(const fs::path& path) : path_(path), name_(UnusedName(path)) {
    std::error_code unreadable;
    const fs::file_status there = fs::status(path, unreadable);
    if (fs::exists(there) && !fs::is_regular_file(there)) {
      throw Error(path.string() + ": expected a file's name, got a folder or a device; choose " +
                  "another name");
    }
    file_ = open(name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (file_ < 0) Refuse(path_, errno);
  }
  Unfinished(const Unfinished&) = delete;
  Unfinished& operator=(const Unfinished&) = delete;
  ~Unfinished() {
    if (file_ >= 0) close(file_);
    if (!name_.empty()) unlink(name_.c_str());
  }

  void Write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t count = write(file_, bytes.data(), bytes.size());
      if (count < 0 && errno != EINTR) Refuse(path_, errno);
      if (count > 0) bytes.remove_prefix(static_cast<std::size_t>(count));
    }
  }

  void Rename() {
    const int file = file_;
    file_ = -1;
    if (close(file) != 0) Refuse(path_, errno);
    if (std::rename(name_.c_str(), path_.c_str()) != 0) Refuse(path_, errno);
    name_.clear();
  }

 private:
  fs::path path_, name_;
  int file_ = -1;
};

}  // namespace

void WriteWhole(const fs::path& path, std::string_view bytes) {
  Unfinished file(path);
  file.Write(bytes);
  file.Rename();
}

void CheckWritable(const fs::path& path) { const Unfinished file(path); }

}  // namespace patchcore
