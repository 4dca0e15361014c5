// Protobuf's wire format: read and write the fields of a message; the twin of
// patchcore_runtime/files/protobuf.py.
//
// Only what a deterministic writer emits is read: numbers in their shortest form, and tags of 32
// bits. Other readers disagree about the rest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace patchcore {

// Wire types; strings and messages are bytes, too.
constexpr std::uint64_t kVarint = 0;
constexpr std::uint64_t kBytes = 2;
constexpr std::uint64_t kFixed32 = 5;

// One field of a message.
struct Field {
  std::uint64_t number = 0;
  std::uint64_t wire = 0;
  std::uint64_t value = 0;   // of a kVarint
  std::string_view content;  // of another
};

// Reads fields and packed numbers, and counts them, so that no file can make a walk endless.
class FieldReader {
 public:
  // where   the file's name, for messages
  explicit FieldReader(std::string where);

  // Takes the first field off the bytes of a message.
  // Throws ArtifactError: there is none.
  Field Next(std::string_view& bytes);

  // The numbers of a packed field, as 64 bits without sign. Throws ArtifactError.
  std::vector<std::uint64_t> Packed(std::string_view bytes);

  // Throws ArtifactError: the file is not an ONNX graph but what is said.
  [[noreturn]] void Refuse(const std::string& got) const;

 private:
  void Count();
  std::uint64_t Varint(std::string_view& bytes) const;

  std::string where_;
  std::size_t seen_ = 0;
};

// Numbers and fields as they are written.
std::string Varint(std::uint64_t value);
std::string BytesField(std::uint64_t number, std::string_view content);
std::string IntegerField(std::uint64_t number, std::uint64_t value);
std::string Fixed32Field(std::uint64_t number, std::string_view content);

}  // namespace patchcore
