// Any bytes are an image of a size that is allowed, or refused by ImageError in one line.
#include <zlib.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "errors.hpp"
#include "image/decode.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t limit);

namespace {

constexpr std::size_t kSignature = 8;

std::size_t BigEndian(const std::uint8_t* bytes) {
  return std::size_t{bytes[0]} << 24 | std::size_t{bytes[1]} << 16 | std::size_t{bytes[2]} << 8 |
         bytes[3];
}

// Makes the checksum of every PNG chunk right, or the fuzzer would see little else than them.
void FixChecksums(std::uint8_t* data, std::size_t size) {
  if (size < kSignature || data[0] != 0x89) return;
  for (std::size_t at = kSignature; size - at >= 12;) {
    const std::size_t length = BigEndian(data + at);
    if (length > size - at - 12) return;
    const uLong sum = crc32(0, data + at + 4, static_cast<uInt>(length + 4));
    for (std::size_t i = 0; i < 4; ++i) {
      data[at + 8 + length + i] = static_cast<std::uint8_t>(sum >> (24 - 8 * i) & 255);
    }
    at += length + 12;
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t limit, unsigned int) {
  const std::size_t mutated = LLVMFuzzerMutate(data, size, limit);
  FixChecksums(data, mutated);
  return mutated;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const patchcore::Image image = patchcore::DecodeImage({data, data + size}, "fuzz");
    if (image.pixels.size() != image.height * image.width * 3) std::abort();
  } catch (const patchcore::ImageError& error) {
    if (std::string(error.what()).find('\n') != std::string::npos) std::abort();
  }
  return 0;
}
