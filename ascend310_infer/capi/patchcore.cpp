// The C API of patchcore.h: opaque handles around a Detector and its results.
//
// Every function that can fail runs inside of Guarded, so no exception crosses the boundary.
#include "capi/patchcore.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <string>

#include "artifact/folder.hpp"
#include "capi/pixels.hpp"
#include "cores.hpp"
#include "detector.hpp"
#include "errors.hpp"
#include "image/decode.hpp"
#include "image/preprocess.hpp"
#include "messages.hpp"
#include "version.hpp"

struct patchcore_detector {
  patchcore::Detector detector;
};

struct patchcore_result {
  patchcore::Result result;
  double pixel_threshold;
  std::size_t height, width;
};

namespace {

// A fixed size, because a refusal for lack of memory must find room, too.
thread_local std::array<char, 1024> last_error{};

void Remember(const char* reason) noexcept {
  std::size_t length = 0;
  for (; reason[length] != '\0' && length + 1 < last_error.size(); ++length) {
    last_error[length] = reason[length];
  }
  last_error[length] = '\0';
}

// What `work` returns; NULL if it throws, whatever it throws.
template <typename Work>
auto Guarded(const Work& work) noexcept -> decltype(work()) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    Remember("not enough memory; scale the image down or close other programs");
  } catch (const std::exception& error) {
    Remember(error.what());
  } catch (...) {
    Remember("an unknown failure; please report it");
  }
  return nullptr;
}

template <typename T>
T& Required(T* argument, const char* name) {
  if (argument == nullptr) throw patchcore::Error(std::string(name) + ": expected one, got NULL");
  return *argument;
}

std::string TextOf(const char* text) { return text == nullptr ? std::string() : text; }

patchcore_options Checked(const patchcore_options* given) {
  if (given == nullptr) return {sizeof(patchcore_options), nullptr, nullptr, 0, 0};
  if (given->size != sizeof(patchcore_options)) {
    throw patchcore::Error("options.size: expected " + std::to_string(sizeof(patchcore_options)) +
                           ", got " + std::to_string(given->size) +
                           "; compile with the patchcore.h of this library");
  }
  return *given;
}

patchcore_result* Score(patchcore::Detector& detector, const patchcore::Image& image) {
  const auto& size = detector.manifest().preprocess;
  auto result = std::make_unique<patchcore_result>();
  result->result = detector.Predict(patchcore::FitToInput(image, size));
  result->pixel_threshold = detector.calibration().pixel_threshold;
  result->height = size.height;
  result->width = size.width;
  return result.release();
}

}  // namespace

const char* patchcore_version(void) { return patchcore::kVersion; }

const char* patchcore_last_error(void) { return last_error.data(); }

patchcore_detector* patchcore_open(const char* artifact, const patchcore_options* options) {
  return Guarded([&] {
    const std::string folder = &Required(artifact, "artifact");
    const patchcore_options asked = Checked(options);
    patchcore::BackendOptions backend;
    backend.threads = asked.threads == 0 ? patchcore::UsableCores() : asked.threads;
    patchcore::Wanted wanted;
    if (asked.threshold != 0) wanted.threshold = asked.threshold;
    const auto opened = patchcore::Artifact::Open(folder, true, TextOf(asked.public_key));
    return new patchcore_detector{
        patchcore::Detector(opened, backend, patchcore::Search::kAuto, TextOf(asked.roi), wanted)};
  });
}

void patchcore_close(patchcore_detector* detector) { delete detector; }

patchcore_result* patchcore_score_file(patchcore_detector* detector, const char* path) {
  return Guarded([&] {
    auto& scored = Required(detector, "detector").detector;
    const auto options = patchcore::PhotographOptions(scored.manifest().preprocess);
    return Score(scored, patchcore::ReadImage(&Required(path, "path"), options));
  });
}

patchcore_result* patchcore_score_bytes(patchcore_detector* detector, const void* bytes,
                                        size_t count) {
  return Guarded([&] {
    auto& scored = Required(detector, "detector").detector;
    const auto* first = &Required(static_cast<const std::uint8_t*>(bytes), "bytes");
    const auto options = patchcore::PhotographOptions(scored.manifest().preprocess);
    return Score(scored, patchcore::DecodeImage({first, first + count}, "image", options));
  });
}

patchcore_result* patchcore_score_pixels(patchcore_detector* detector, const uint8_t* pixels,
                                         size_t height, size_t width, size_t stride, int layout) {
  return Guarded([&] {
    auto& scored = Required(detector, "detector").detector;
    return Score(scored,
                 patchcore::ImageOf({&Required(pixels, "pixels"), height, width, stride, layout}));
  });
}

void patchcore_get_verdict(const patchcore_result* result, patchcore_verdict* verdict) {
  const patchcore::Result& one = result->result;
  *verdict = {one.score,
              one.threshold,
              one.p_value,
              result->pixel_threshold,
              one.peak[0],
              one.peak[1],
              one.is_anomalous() ? 1 : 0,
              one.verdict == patchcore::Verdict::kNotThisPart ? 1 : 0};
}

const float* patchcore_get_map(const patchcore_result* result, size_t* height, size_t* width) {
  *height = result->height;
  *width = result->width;
  return result->result.anomaly_map.data();
}

void patchcore_free(patchcore_result* result) { delete result; }
