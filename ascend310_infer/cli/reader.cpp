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
#include "files/names.hpp"

namespace patchcore {
namespace {

namespace fs = std::filesystem;

// The list of patchcore_runtime/image/listing.py.
constexpr std::array<std::string_view, 10> kSuffixes{".bmp", ".jfif", ".jif", ".jpe",  ".jpeg",
                                                     ".jpg", ".png",  ".tif", ".tiff", ".webp"};
constexpr std::size_t kNamed = 3;  // files that the line about what was left out names

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

std::string Joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text;
}

// The files below a folder, as paths relative to it, sorted by their text.
struct Listing {
  std::vector<std::string> images;
  std::vector<std::string> others;  // with another suffix
  std::size_t hidden = 0;           // or in a hidden folder: macOS writes `._NAME` on other disks
};

bool IsHidden(const fs::path& relative) {
  return std::any_of(relative.begin(), relative.end(),
                     [](const fs::path& part) { return part.string().front() == '.'; });
}

Listing FilesBelow(const fs::path& folder) {
  Listing found;
  std::error_code failure, unreadable;
  fs::recursive_directory_iterator entries(folder, fs::directory_options::skip_permission_denied,
                                           failure);
  for (const fs::recursive_directory_iterator end; !failure && entries != end;
       entries.increment(failure)) {
    if (!entries->is_regular_file(unreadable)) continue;
    const fs::path relative = entries->path().lexically_relative(folder);
    if (IsHidden(relative)) {
      ++found.hidden;
    } else {
      (HasImageSuffix(relative) ? found.images : found.others).push_back(relative.generic_string());
    }
  }
  if (failure) {
    throw ImageError(Shown(folder.string()) + ": " + failure.message() + "; expected images");
  }
  std::sort(found.images.begin(), found.images.end());
  std::sort(found.others.begin(), found.others.end());
  return found;
}

// One line about the files that are not images; empty if there are none.
std::string LeftOut(const fs::path& folder, const Listing& found) {
  std::vector<std::string> parts;
  if (!found.others.empty()) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < std::min(kNamed, found.others.size()); ++i) {
      names.push_back(Shown(found.others[i]));
    }
    if (found.others.size() > kNamed) names.emplace_back("...");
    parts.push_back(std::to_string(found.others.size()) + " without an image's suffix (" +
                    Joined(names) + ")");
  }
  if (found.hidden > 0) parts.push_back(std::to_string(found.hidden) + " hidden");
  return parts.empty() ? "" : Shown(folder.string()) + ": left out " + Joined(parts);
}

void RequireImages(const fs::path& folder, const Listing& found) {
  if (!found.images.empty()) return;
  const std::vector<std::string> suffixes(kSuffixes.begin(), kSuffixes.end());
  throw ImageError(Shown(folder.string()) + ": expected images (" + Joined(suffixes) +
                   "), got none among " + std::to_string(found.others.size() + found.hidden) +
                   " files");
}

}  // namespace

std::vector<ImageFile> ListImages(const std::vector<std::string>& sources,
                                  std::vector<std::string>& notes) {
  std::vector<ImageFile> images;
  const auto add = [&](const fs::path& path, const std::string& name) {
    images.push_back({path.string(), name, Shown(path.string())});
  };
  for (const std::string& source : sources) {
    const fs::path path = Tidy(source);
    std::error_code unreadable;
    if (!fs::is_directory(path, unreadable)) {
      add(path, path.filename().string());
      continue;
    }
    const Listing found = FilesBelow(path);
    RequireImages(path, found);
    if (const std::string note = LeftOut(path, found); !note.empty()) notes.push_back(note);
    // "./a.png" is "a.png" to Python.
    for (const std::string& name : found.images) add(Tidy((path / name).string()), name);
  }
  return images;
}

LoadedImage ReadOne(const ImageFile& image, const Preprocessing& settings, bool keep_photograph,
                    MemoryBudget& memory) {
  Stopwatch watch;
  LoadedImage read;
  read.image = image;
  MemoryBudget::Share share(memory);
  const auto reserve = [&](std::size_t bytes) { share.Take(bytes); };
  Image photograph = ReadImage(image.path, PhotographOptions(settings, &read.note, reserve));
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
    kept_ -= ready_.front().photograph.pixels.size();
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
    refused.error = FailureOf(image.shown);
    return refused;
  }
}

void ImageReader::ReadAll() {
  try {
    for (const ImageFile& image : images_) {
      LoadedImage read = ReadOrRefuse(image);
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] {
        const std::size_t ahead = kept_ < MemoryBudget::kMost ? batch_ + 2 : batch_;
        return stopped_ || ready_.size() < ahead;
      });
      if (stopped_) return;
      kept_ += read.photograph.pixels.size();
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
