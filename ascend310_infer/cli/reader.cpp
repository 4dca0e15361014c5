#include "cli/reader.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <exception>
#include <filesystem>
#include <string_view>
#include <utility>

#include "cli/failure.hpp"
#include "detector.hpp"
#include "errors.hpp"

namespace patchcore {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 7> kSuffixes{".bmp", ".jpeg", ".jpg", ".png",
                                                    ".tif", ".tiff", ".webp"};

// As Python's pathlib prints it: without "." and doubled slashes, with "..".
fs::path Tidy(const std::string& text) {
  fs::path tidy;
  for (const fs::path& part : fs::path(text)) {
    if (part != "." && !part.empty()) tidy /= part;
  }
  return tidy.empty() ? fs::path(".") : tidy;
}

bool HasImageSuffix(const fs::path& path) {
  std::string suffix = path.extension().string();
  std::transform(suffix.begin(), suffix.end(), suffix.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  return std::find(kSuffixes.begin(), kSuffixes.end(), suffix) != kSuffixes.end();
}

[[noreturn]] void RefuseNoImages(const fs::path& folder, std::size_t others) {
  std::string suffixes;
  for (const std::string_view suffix : kSuffixes) {
    suffixes += (suffixes.empty() ? "" : ", ") + std::string(suffix);
  }
  throw ImageError(folder.string() + ": expected images (" + suffixes + "), got none among " +
                   std::to_string(others) + " files");
}

// The images below a folder, as paths relative to it, sorted by their text. Hidden files and
// folders are left out: macOS writes one such file (`._NAME`) beside each image on other disks.
std::vector<std::string> ImagesBelow(const fs::path& folder) {
  std::vector<std::string> found;
  std::size_t others = 0;  // files that are no images, and not hidden
  std::error_code failure, unreadable;
  fs::recursive_directory_iterator entries(folder, fs::directory_options::skip_permission_denied,
                                           failure);
  for (const fs::recursive_directory_iterator end; !failure && entries != end;
       entries.increment(failure)) {
    const fs::path& path = entries->path();
    if (path.filename().string().front() == '.') {
      entries.disable_recursion_pending();
    } else if (entries->is_regular_file(unreadable)) {
      if (HasImageSuffix(path)) {
        found.push_back(path.lexically_relative(folder).generic_string());
      } else {
        ++others;
      }
    }
  }
  if (failure) throw ImageError(folder.string() + ": " + failure.message() + "; expected images");
  if (found.empty()) RefuseNoImages(folder, others);
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

std::vector<ImageFile> ListImages(const std::vector<std::string>& sources) {
  std::vector<ImageFile> images;
  for (const std::string& source : sources) {
    const fs::path path = Tidy(source);
    std::error_code unreadable;
    if (!fs::is_directory(path, unreadable)) {
      images.push_back({path.string(), path.filename().string()});
      continue;
    }
    for (const std::string& name : ImagesBelow(path)) {
      // "./a.png" is "a.png" to Python.
      images.push_back({Tidy((path / name).string()).string(), name});
    }
  }
  return images;
}

LoadedImage ReadOne(const ImageFile& image, const Preprocessing& settings, bool keep_photograph) {
  Stopwatch watch;
  LoadedImage read;
  read.image = image;
  Image photograph = ReadImage(image.path);
  read.input = FitToInput(photograph, settings);
  if (keep_photograph) read.photograph = std::move(photograph);
  read.read_ms = watch.Lap();
  return read;
}

ImageReader::ImageReader(const std::vector<ImageFile>& images, std::size_t batch, Read read)
    : images_(images), batch_(batch), read_(std::move(read)), thread_([this] { ReadAll(); }) {}

ImageReader::~ImageReader() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

ImageBatch ImageReader::Next() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] {
    return failure_ || ready_.size() >= std::min(batch_, images_.size() - taken_);
  });
  if (failure_ && ready_.empty()) std::rethrow_exception(failure_);
  ImageBatch batch;
  batch.number = batches_++;
  while (batch.images.size() < batch_ && !ready_.empty()) {
    batch.images.push_back(std::move(ready_.front()));
    ready_.pop_front();
  }
  taken_ += batch.images.size();
  lock.unlock();
  changed_.notify_all();
  return batch;
}

LoadedImage ImageReader::ReadOrRefuse(const ImageFile& image) const {
  try {
    return read_(image);
  } catch (...) {  // whatever it is, it is the result of this image
    LoadedImage refused;
    refused.image = image;
    refused.error = FailureOf(image.path);
    return refused;
  }
}

void ImageReader::ReadAll() {
  try {
    for (const ImageFile& image : images_) {
      LoadedImage read = ReadOrRefuse(image);
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return stopped_ || ready_.size() < batch_ + 2; });
      if (stopped_) return;
      ready_.push_back(std::move(read));
      lock.unlock();
      changed_.notify_all();
    }
  } catch (...) {  // not even a refusal found memory: Next() throws it again
    const std::lock_guard<std::mutex> lock(mutex_);
    failure_ = std::current_exception();
    changed_.notify_all();
  }
}

}  // namespace patchcore
