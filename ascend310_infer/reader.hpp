// Picture files -> inputs, read ahead by a thread of their own while the engine computes.
#pragma once

#include <condition_variable>
#include <deque>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "decode.hpp"
#include "preprocess.hpp"

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
  Image photograph;  // kept only where it was asked for
  Input input;
  std::string error;   // empty when it was read; else one line that begins with the path
  double read_ms = 0;  // decoding and preprocessing
};

// Reads pictures in order, at most `kAhead` before they are taken.
class PictureReader {
 public:
  // Both references must outlive the reader.
  PictureReader(const std::vector<Picture>& pictures, const Preprocessing& settings,
                bool keep_photographs);
  ~PictureReader();
  PictureReader(const PictureReader&) = delete;
  PictureReader& operator=(const PictureReader&) = delete;

  // The next picture; call it once per picture.
  ReadPicture Next();

 private:
  static constexpr std::size_t kAhead = 3;

  void ReadAll();
  ReadPicture ReadOne(const std::string& path) const;

  const std::vector<Picture>& pictures_;
  const Preprocessing& settings_;
  bool keep_photographs_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<ReadPicture> ready_;
  bool stopped_ = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace patchcore
