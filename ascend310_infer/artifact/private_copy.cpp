#include "artifact/private_copy.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "errors.hpp"
#include "files/regular.hpp"

namespace patchcore {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBlock = std::size_t{1} << 20;

[[noreturn]] void RefuseTarget(const fs::path& path, const std::string& reason) {
  throw ArtifactError(path.string() + ": cannot be written (" + reason +
                      "); set TMPDIR to a larger disk");
}

}  // namespace

PrivateCopy::PrivateCopy(const fs::path& source) : source_(source) {
  std::error_code error;
  const fs::path temporary = fs::temp_directory_path(error);
  std::string pattern = (temporary / "patchcore-XXXXXX").string();
  if (error || mkdtemp(pattern.data()) == nullptr) {  // with mode 0700
    RefuseTarget(temporary, error ? error.message() : std::strerror(errno));
  }
  place_ = pattern;
  const fs::path name = source.has_filename() ? source.filename() : source.parent_path().filename();
  folder_ = place_ / (name.empty() || name == "." || name == ".." ? "artifact" : name);
  fs::create_directory(folder_, error);
  if (error) RefuseTarget(folder_, error.message());
}

PrivateCopy::~PrivateCopy() {
  std::error_code ignored;
  fs::remove_all(place_, ignored);
}

void PrivateCopy::Take(std::string_view name, bool required) const {
  const fs::path path = source_ / name, copy = folder_ / name;
  try {
    RegularFile file(path, kAnySize, Links::kOwnFolder);
    std::ofstream target(copy, std::ios::binary);
    std::vector<char> block(kBlock);
    for (std::size_t length = block.size(); length == block.size();) {
      length = file.Read(block.data(), block.size());
      target.write(block.data(), static_cast<std::streamsize>(length));
    }
    target.close();
    if (!target) RefuseTarget(copy, std::strerror(errno));
  } catch (const MissingFileError& error) {
    if (required)
      throw ArtifactError(path.string() + ": " + error.what() + "; copy the folder again");
  } catch (const FileError& error) {
    throw ArtifactError(path.string() + ": " + error.what() + "; copy the folder again");
  }
}

}  // namespace patchcore
