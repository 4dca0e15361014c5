// Picture files -> inputs, read ahead by a thread of their own while the engine computes.
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

namespace patchcore {

// One picture of the command line.
struct Picture {
  std::string path;  // as it is printed
  std::string name;  // of its heat map below --maps
};

// The pictures that sources name: a file is itself, a folder all pictures in it, sorted, by suffix.
// Throws ImageError: a folder without pictures.
std::vector<Picture> ListPictures(const std::vector<std::string>& sources);

// A picture that was read, or why it was not.
struct ReadPicture {
  Picture picture;
  Image photograph;  // kept only where it was asked for
  Input input;
  std::string error;   // empty when it was read; else one line that begins with the path
  double read_ms = 0;  // decoding and preprocessing
};

// Decodes and preprocesses one picture; what is wrong with the picture goes into `error`.
//   keep_photograph   keep the photograph as well as the input
ReadPicture ReadOne(const Picture& picture, const Preprocessing& settings, bool keep_photograph);

// Some pictures that are scored together.
struct PictureBatch {
  std::size_t number = 0;  // 0, 1, … in the order of the pictures
  std::vector<ReadPicture> pictures;
};

// Reads pictures in order, a batch and two more before they are taken.
class PictureReader {
 public:
  using Read = std::function<ReadPicture(const Picture&)>;

  // The pictures must outlive the reader.
  //   batch      pictures of one batch, 1 or more
  //   read       called for one picture after the other by a thread of the reader
  PictureReader(const std::vector<Picture>& pictures, std::size_t batch, Read read);
  ~PictureReader();
  PictureReader(const PictureReader&) = delete;
  PictureReader& operator=(const PictureReader&) = delete;

  // The next batch; only the last is smaller, and after it come empty ones. Several threads may
  // take batches.
  // Throws what `read` threw, once the pictures before it are taken.
  PictureBatch Next();

 private:
  void ReadAll();

  const std::vector<Picture>& pictures_;
  std::size_t batch_;
  Read read_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<ReadPicture> ready_;
  std::size_t taken_ = 0;    // pictures
  std::size_t batches_ = 0;  // that were taken
  bool stopped_ = false;
  std::exception_ptr failure_;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace patchcore
