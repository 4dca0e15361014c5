// The command `patchcore_infer`: score pictures with an artifact, or run its self-test here.
//
// argv -> JSON lines or text on stdout, refusals on stderr, exit code 0 done, 1 refused, 2 usage.
#include <chrono>
#include <cstdio>
#include <iostream>
#include <new>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "artifact.hpp"
#include "detector.hpp"
#include "errors.hpp"
#include "heatmap.hpp"
#include "options.hpp"
#include "reader.hpp"
#include "selftest.hpp"

namespace {

using patchcore::Detector;
using patchcore::Options;
using patchcore::Picture;
using patchcore::ReadPicture;
using patchcore::Result;

void Complain(const std::string& reason) { std::cerr << "patchcore_infer: " << reason << "\n"; }

// One value as json.dumps of Python writes it.
template <typename T>
std::string Json(const T& value) {
  using nlohmann::json;
  return json(value).dump(-1, ' ', true, json::error_handler_t::replace);
}

std::string Line(const Picture& picture, const Result& result, const std::string& map) {
  std::string line = "{\"image\": " + Json(picture.path) + ", \"score\": " + Json(result.score) +
                     ", \"threshold\": " + Json(result.threshold) +
                     ", \"score_ratio\": " + Json(result.score / result.threshold) +
                     ", \"p_value\": " + Json(result.p_value) +
                     ", \"is_anomalous\": " + Json(result.is_anomalous) + ", \"peak\": [" +
                     Json(result.peak[0]) + ", " + Json(result.peak[1]) + "]";
  if (!map.empty()) line += ", \"map\": " + Json(map);
  return line + "}";
}

std::filesystem::path MapPath(const Options& options, const Picture& picture, const char* kind) {
  return std::filesystem::path(options.maps) / (picture.name + "." + kind + ".png");
}

void RefuseSharedMaps(const Options& options, const std::vector<Picture>& pictures) {
  std::set<std::string> seen;
  for (const Picture& picture : pictures) {
    if (seen.insert(picture.name).second) continue;
    throw patchcore::ImageError(
        MapPath(options, picture, "heatmap").string() +
        ": two pictures would get this heat map; "
        "score their common folder, or one after the other with two --maps");
  }
}

// Writes both maps of one picture; returns the path of the heat map.
std::string WriteMaps(const Options& options, const Picture& picture, const Detector& detector,
                      const ReadPicture& read, const Result& result) {
  const auto& size = detector.manifest().preprocess;
  const auto scale = patchcore::ScaleOf(detector.manifest().calibration);
  const auto laid = patchcore::MapOnPhotograph(result.anomaly_map, size.height, size.width,
                                               read.input.placement);
  const std::filesystem::path heatmap = MapPath(options, picture, "heatmap");
  patchcore::WriteHeatmap(heatmap, read.photograph, laid, scale);
  patchcore::WriteMap(MapPath(options, picture, "map"), result.anomaly_map, size.height,
                      size.width, scale);
  return heatmap.string();
}

void PrintTimings(const Picture& picture, const ReadPicture& read, const Result& result) {
  const patchcore::Timings& ms = result.timings;
  std::fprintf(stderr,
               "timings: %s: read %.2f ms, features %.2f ms, search %.2f ms, score %.2f ms\n",
               picture.path.c_str(), read.read_ms, ms.features_ms, ms.search_ms, ms.score_ms);
}

int ScorePictures(const Options& options) {
  const std::vector<Picture> pictures = patchcore::ListPictures(options.sources);
  if (!options.maps.empty()) RefuseSharedMaps(options, pictures);
  Detector detector(patchcore::Artifact::Open(options.artifact).With(options.wanted),
                    options.backend, options.search);
  const auto start = std::chrono::steady_clock::now();
  patchcore::PictureReader reader(pictures, detector.manifest().preprocess, !options.maps.empty());
  bool refused = false;
  for (const Picture& picture : pictures) {
    const ReadPicture read = reader.Next();
    if (!read.error.empty()) {
      refused = true;
      Complain(read.error);
      std::cout << "{\"image\": " << Json(picture.path) << ", \"error\": " << Json(read.error)
                << "}" << std::endl;
      continue;
    }
    const Result result = detector.Predict(read.input);
    const bool wanted = !options.maps.empty();
    const std::string map =
        wanted ? WriteMaps(options, picture, detector, read, result) : std::string();
    std::cout << Line(picture, result, map) << std::endl;
    if (options.timings) PrintTimings(picture, read, result);
  }
  if (options.timings) {
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    std::fprintf(stderr, "timings: %zu pictures in %.2f s, %.1f a second, on %s\n", pictures.size(),
                 took.count(), static_cast<double>(pictures.size()) / took.count(),
                 detector.EngineName().c_str());
  }
  return refused ? 1 : 0;
}

int CheckHere(const Options& options) {
  const auto artifact = patchcore::Artifact::Open(options.artifact, false);
  artifact.Verify();
  Detector detector(artifact, options.backend, options.search);
  const auto steps = patchcore::RunSelfTest(artifact, detector);
  std::printf("checksums: %zu files as listed\n", artifact.Files().size());
  std::string broken;
  for (const patchcore::SelfTestStep& step : steps) {
    std::printf("%s: %s, differs by %.3g of %.3g\n", step.name.c_str(),
                step.Passed() ? "ok" : "FAILED", step.difference, step.tolerance);
    if (broken.empty() && !step.Passed()) broken = step.name;
  }
  std::fflush(stdout);
  if (broken.empty()) return 0;
  Complain(options.artifact + ": the self-test breaks at `" + broken +
           "` on this machine; do not trust its scores here");
  return 1;
}

int Run(const std::vector<std::string>& arguments) {
  const Options options = patchcore::ParseOptions(arguments);
  if (options.help) {
    std::cout << patchcore::Help();
    return 0;
  }
  if (options.version) {
    std::cout << "patchcore_infer " << patchcore::kVersion << "\n";
    return 0;
  }
  return options.selftest ? CheckHere(options) : ScorePictures(options);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Run({argv + (argc > 0 ? 1 : 0), argv + argc});
  } catch (const patchcore::UsageError& error) {
    std::cerr << patchcore::Usage() << "patchcore_infer: error: " << error.what() << "\n";
    return 2;
  } catch (const patchcore::Error& error) {
    Complain(error.what());
  } catch (const std::bad_alloc&) {
    Complain("expected more memory than there is; close other programs");
  } catch (const std::exception& error) {
    Complain(error.what());
  }
  return 1;
}
