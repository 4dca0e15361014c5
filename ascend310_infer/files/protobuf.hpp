// Protobuf's wire format: the fields of a message, read from a mapped file; the twin of
// patchcore_runtime/files/protobuf.py.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace patchcore {

constexpr std::uint64_t kVarint = 0;  // wire types; strings and messages are bytes too
constexpr std::uint64_t kBytes = 2;

// One field of a message.
struct Field {
  std::uint64_t number = 0;
  std::uint64_t wire = 0;
  std::string_view content;
  std::string_view whole;  // with the tag and the length in front of the content
};

// Reads fields, and counts them, so that no file can make a walk endless.
class FieldReader {
 public:
  // where   the file's name, for messages
  explicit FieldReader(std::string where);

  // Takes the first field off the bytes of a message.
  // Throws ArtifactError: there is none.
  Field Next(std::string_view& bytes);

  // Throws ArtifactError: the file is not an ONNX graph but what is said.
  [[noreturn]] void Refuse(const std::string& got) const;

 private:
  std::uint64_t Varint(std::string_view& bytes) const;

  std::string where_;
  std::size_t seen_ = 0;
};

// An ONNX file, mapped into memory; no weight is read for it.
class MappedGraph {
 public:
  // Throws ArtifactError: the file is missing, empty or not a regular one.
  explicit MappedGraph(const std::filesystem::path& path);

  std::string_view bytes() const { return {static_cast<const char*>(pages_.get()), size_}; }

 private:
  std::size_t size_ = 0;
  std::shared_ptr<void> pages_;
};

// Fields as they are written.
std::string BytesField(std::uint64_t number, std::string_view content);
std::string IntegerField(std::uint64_t number, std::uint64_t value);

}  // namespace patchcore
