// Image files -> inputs, read ahead by a thread of their own while the engine computes.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "image/decode.hpp"
#include "image/preprocess.hpp"
#include "memory_budget.hpp"

namespace patchcore {

// One image of the command line.
struct ImageFile {
  std::string path;
  std::string name;   // of its heat map below --maps
  std::string shown;  // the path as it is printed
};

// The images of the sources: a file itself, or all images below a folder, by suffix, sorted.
//   notes      receives a line about the other files of each folder
// Throws ImageError: a folder without images.
std::vector<ImageFile> ListImages(const std::vector<std::string>& sources,
                                  std::vector<std::string>& notes);

// An image that was read, or the reason why it could not be read.
struct LoadedImage {
  ImageFile image;
  Image photograph;  // kept on request only
  Input input;
  std::string error;   // empty when it was read; else one line that begins with the path
  std::string note;    // about an image that is almost black; empty for others
  double read_ms = 0;  // decoding and preprocessing
};

// Decodes and preprocesses one image.
//   keep_photograph   keep the photograph as well as the input
//   memory            shared with the threads that draw
// Throws ImageError: the image is refused.
LoadedImage ReadOne(const ImageFile& image, const Preprocessing& settings, bool keep_photograph,
                    MemoryBudget& memory);

// Some images that are scored together.
struct ImageBatch {
  std::size_t number = 0;  // 0, 1, … in the order of the images
  std::vector<LoadedImage> images;
};

// Reads images in order, up to a batch and two images ahead; only up to a batch where the kept
// photographs are large.
class ImageReader {
 public:
  using Read = std::function<LoadedImage(const ImageFile&)>;

  // The images must outlive the reader.
  //   batch      images of one batch, 1 or more
  //   read       called for one image after the other by a thread of the reader; what it throws
  //              becomes the `error` of that image
  ImageReader(const std::vector<ImageFile>& images, std::size_t batch, Read read);
  ~ImageReader();
  ImageReader(const ImageReader&) = delete;
  ImageReader& operator=(const ImageReader&) = delete;

  // The next batch. Only the last is smaller, and empty ones follow it. Several threads may take
  // batches.
  // Throws std::bad_alloc: no memory for the list of images read ahead.
  ImageBatch Next();

 private:
  LoadedImage ReadOrRefuse(const ImageFile& image) const;
  void ReadAll();

  const std::vector<ImageFile>& images_;
  std::size_t batch_;
  Read read_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<LoadedImage> ready_;
  std::size_t kept_ = 0;     // bytes of photographs in ready_
  std::size_t taken_ = 0;    // images
  std::size_t batches_ = 0;  // that were taken
  bool stopped_ = false;
  std::exception_ptr failure_;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace patchcore
