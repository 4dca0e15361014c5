#include "selftest.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "errors.hpp"
#include "files/regular.hpp"
#include "messages.hpp"

namespace patchcore {
namespace {

constexpr std::string_view kStart("\x93NUMPY\x01\x00", 8);
constexpr std::size_t kStartBytes = 10;  // and the length of the header
constexpr std::size_t kMostHeaderBytes = kStartBytes + 65535;

// Text of a NumPy header for float32 (height, width), as NumPy 1 and 2 write it.
std::string NpyHeader(std::size_t height, std::size_t width) {
  return "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(height) + ", " +
         std::to_string(width) + "), }";
}

// Reads a NumPy file of format 1.0, `<f4`, (height, width), row-major; nothing else is accepted.
std::vector<float> ReadMap(const std::filesystem::path& path, std::size_t height,
                           std::size_t width) {
  const std::string expected = NpyHeader(height, width);
  const auto refuse = [&](const std::string& got) {
    throw ArtifactError(path.string() + ": expected a NumPy file 1.0 with " + expected + ", got " +
                        got + "; copy the folder again");
  };
  std::vector<float> map(height * width);
  const std::size_t map_bytes = map.size() * sizeof(float);
  std::string content;
  try {
    content = ReadRegular(path, map_bytes + kMostHeaderBytes, Links::kOwnFolder);
  } catch (const FileError& error) {
    throw ArtifactError(path.string() + ": " + error.what() + "; copy it again");
  }
  if (content.size() < kStartBytes || content.substr(0, 8) != kStart) refuse("another file");
  const std::size_t length = static_cast<unsigned char>(content[8]) +
                             std::size_t{256} * static_cast<unsigned char>(content[9]);
  std::string header = content.substr(kStartBytes, length);
  header.erase(header.find_last_not_of(" \n") + 1);
  if (header != expected) refuse(OneLine(header));
  if (content.size() != kStartBytes + length + map_bytes) {
    refuse(std::to_string(content.size()) + " bytes");
  }
  std::memcpy(map.data(), content.data() + kStartBytes + length, map_bytes);
  return map;
}

template <typename T>
double Gap(const std::vector<T>& left, const std::vector<T>& right) {
  double gap = 0;
  for (std::size_t i = 0; i < left.size(); ++i) {
    const double here = std::abs(static_cast<double>(left[i]) - static_cast<double>(right[i]));
    if (std::isnan(here))
      return std::numeric_limits<double>::infinity();  // a maximum would hide it
    gap = std::max(gap, here);
  }
  return gap;
}

double RelativeGap(double got, double stored) {
  const double gap = std::abs(got - stored) / std::max(std::abs(stored), 1e-12);
  return std::isnan(gap) ? std::numeric_limits<double>::infinity() : gap;
}

// Mean and largest absolute value of each layer in turn; sums in float64.
std::vector<double> LayerMagnitudes(const Layers& layers) {
  std::vector<double> magnitudes;
  for (const Tensor& layer : layers) {
    double sum = 0, largest = 0;
    for (const float value : layer.values) {
      const double magnitude = std::abs(static_cast<double>(value));
      sum += magnitude;
      largest = std::max(largest, magnitude);
    }
    magnitudes.push_back(sum / static_cast<double>(layer.values.size()));
    magnitudes.push_back(largest);
  }
  return magnitudes;
}

double LargestRelativeGap(const std::vector<double>& got, const std::vector<double>& stored) {
  double gap = 0;
  for (std::size_t i = 0; i < got.size(); ++i) gap = std::max(gap, RelativeGap(got[i], stored[i]));
  return gap;
}

Image ReadPart(const Artifact& artifact, std::string_view name) {
  try {
    return ReadImage(artifact.Path(name));
  } catch (const ImageError& error) {
    throw ArtifactError(std::string(error.what()) + "; copy the folder again");
  }
}

}  // namespace

std::vector<SelfTestStep> RunSelfTest(const Artifact& artifact, Detector& detector) {
  const Manifest& manifest = artifact.manifest();
  const std::size_t height = manifest.preprocess.height, width = manifest.preprocess.width;
  const Image stored_input = ReadPart(artifact, kSelftestInput);
  const std::vector<float> stored_map = ReadMap(artifact.Path(kSelftestMap), height, width);
  if (stored_input.height != height || stored_input.width != width) {
    throw ArtifactError(artifact.Path(kSelftestInput).string() + ": expected " +
                        std::to_string(height) + " x " + std::to_string(width) + ", got " +
                        std::to_string(stored_input.height) + " x " +
                        std::to_string(stored_input.width) + "; copy the folder again");
  }
  const Input input = FitToInput(ReadPart(artifact, kSelftestImage), manifest.preprocess);
  const Result result = detector.Predict(input);
  const SelfTest& expected = manifest.selftest;
  const double peak = Gap(stored_map, std::vector<float>(stored_map.size(), 0.0F));
  const std::vector<double> magnitudes = LayerMagnitudes(detector.Features(input));
  return {
      {"input", Gap(input.pixels, stored_input.pixels), 0.0},
      {"features", LargestRelativeGap(magnitudes, expected.layer_magnitudes),
       expected.map_tolerance},
      {"map", Gap(result.anomaly_map, stored_map) / std::max(peak, 1e-12), expected.map_tolerance},
      {"score", RelativeGap(result.score, expected.score), expected.score_tolerance},
  };
}

}  // namespace patchcore
