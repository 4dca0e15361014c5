// The command `patchcore_infer`: score images with an artifact, or run its self-test here.
//
// argv -> JSON lines or text on stdout, refusals on stderr, exit code 0 done, 1 refused, 2 usage.
#include <array>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <new>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include "artifact/folder.hpp"
#include "cli/freed_memory.hpp"
#include "cli/options.hpp"
#include "cli/ordered_work.hpp"
#include "cli/reader.hpp"
#include "detector.hpp"
#include "errors.hpp"
#include "explain/heatmap.hpp"
#include "selftest.hpp"

namespace {

using patchcore::Detector;
using patchcore::ImageBatch;
using patchcore::ImageFile;
using patchcore::LoadedImage;
using patchcore::Options;
using patchcore::Report;
using patchcore::Result;

std::string Complaint(const std::string& reason) { return "patchcore_infer: " + reason + "\n"; }

void Complain(const std::string& reason) { std::cerr << Complaint(reason); }

// One value as json.dumps of Python writes it.
template <typename T>
std::string Json(const T& value) {
  using nlohmann::json;
  return json(value).dump(-1, ' ', true, json::error_handler_t::replace);
}

std::string Line(const ImageFile& image, const Result& result, const std::string& map) {
  std::string line = "{\"image\": " + Json(image.path) + ", \"score\": " + Json(result.score) +
                     ", \"threshold\": " + Json(result.threshold) +
                     ", \"score_ratio\": " + Json(result.score / result.threshold) +
                     ", \"p_value\": " + Json(result.p_value) +
                     ", \"is_anomalous\": " + Json(result.is_anomalous) + ", \"peak\": [" +
                     Json(result.peak[0]) + ", " + Json(result.peak[1]) + "]";
  if (!map.empty()) line += ", \"map\": " + Json(map);
  return line + "}\n";
}

std::filesystem::path MapPath(const Options& options, const ImageFile& image, const char* kind) {
  return std::filesystem::path(options.maps) / (image.name + "." + kind + ".png");
}

void RefuseSharedMaps(const Options& options, const std::vector<ImageFile>& images) {
  std::set<std::string> seen;
  for (const ImageFile& image : images) {
    if (seen.insert(image.name).second) continue;
    throw patchcore::ImageError(
        MapPath(options, image, "heatmap").string() +
        ": two images would get this heat map; "
        "score their common folder, or one after the other with two --maps");
  }
}

// Writes both maps of one image; returns the path of the heat map.
std::string WriteMaps(const Options& options, const Detector& detector, const LoadedImage& read,
                      const Result& result) {
  const auto& size = detector.manifest().preprocess;
  const auto scale = patchcore::ScaleOf(detector.calibration());
  const auto laid =
      patchcore::MapOnPhotograph(result.anomaly_map, size.height, size.width, read.input.placement);
  const std::filesystem::path heatmap = MapPath(options, read.image, "heatmap");
  patchcore::WriteHeatmap(heatmap, read.photograph, laid, scale);
  patchcore::WriteMap(MapPath(options, read.image, "map"), result.anomaly_map, size.height,
                      size.width, scale);
  return heatmap.string();
}

std::string TimingsLine(const LoadedImage& read, const Result& result) {
  const patchcore::Timings& ms = result.timings;
  std::array<char, 160> text{};
  std::snprintf(text.data(), text.size(),
                "read %.2f ms, features %.2f ms, search %.2f ms, score %.2f ms\n", read.read_ms,
                ms.features_ms, ms.search_ms, ms.score_ms);
  return "timings: " + read.image.path + ": " + text.data();
}

// Scores those images of a batch that could be read; every image keeps its place.
Report ScoreBatch(const Options& options, Detector& detector, const ImageBatch& batch) {
  std::vector<const patchcore::Input*> inputs;
  for (const LoadedImage& read : batch.images) {
    if (read.error.empty()) inputs.push_back(&read.input);
  }
  const std::vector<Result> results = detector.PredictBatch(inputs);
  Report report;
  auto result = results.begin();
  for (const LoadedImage& read : batch.images) {
    if (!read.error.empty()) {
      report.refused = true;
      report.complaints += Complaint(read.error);
      report.lines +=
          "{\"image\": " + Json(read.image.path) + ", \"error\": " + Json(read.error) + "}\n";
      continue;
    }
    const std::string map =
        options.maps.empty() ? std::string() : WriteMaps(options, detector, read, *result);
    report.lines += Line(read.image, *result, map);
    if (options.timings) report.complaints += TimingsLine(read, *result);
    ++result;
  }
  return report;
}

void NoteKind(const Options& options, const Detector& detector) {
  if (const std::string note = detector.KindNote(); !note.empty()) {
    Complain(options.artifact + ": note: " + note);
  }
}

// Loading the graphs frees more memory than the detector keeps.
Detector LoadDetector(const patchcore::Artifact& artifact, const Options& options) {
  const patchcore::HandedBack memory;
  return Detector(artifact, options.backend, options.search, options.roi, options.wanted);
}

int ScoreImages(Options options) {
  const std::vector<ImageFile> images = patchcore::ListImages(options.sources);
  if (!options.maps.empty()) RefuseSharedMaps(options, images);
  const std::size_t workers = patchcore::WorkersFor(
      options.backend.threads, (images.size() + options.batch - 1) / options.batch);
  options.backend.workers = workers;
  const auto artifact =
      patchcore::Artifact::Open(options.artifact, true, options.public_key, options.is_private);
  Detector detector = LoadDetector(artifact, options);
  NoteKind(options, detector);
  const auto start = std::chrono::steady_clock::now();
  const bool keep_photographs = !options.maps.empty();
  const auto read = [&](const ImageFile& image) {
    return patchcore::ReadOne(image, detector.manifest().preprocess, keep_photographs);
  };
  patchcore::ImageReader reader(images, options.batch, read);
  const bool refused = patchcore::WorkInOrder(reader, workers, [&](const ImageBatch& batch) {
    return ScoreBatch(options, detector, batch);
  });
  if (options.timings) {
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    std::fprintf(stderr, "timings: %zu images in %.2f s, %.1f a second, on %s\n", images.size(),
                 took.count(), static_cast<double>(images.size()) / took.count(),
                 detector.EngineName().c_str());
    if (const std::string note = detector.SearchNote(); !note.empty()) {
      std::fprintf(stderr, "timings: %s\n", note.c_str());
    }
  }
  return refused ? 1 : 0;
}

int CheckHere(const Options& options) {
  const auto artifact =
      patchcore::Artifact::Open(options.artifact, false, options.public_key, options.is_private);
  artifact.Verify();
  Detector detector = LoadDetector(artifact, options);
  NoteKind(options, detector);
  const auto steps = patchcore::RunSelfTest(artifact, detector);
  const std::string signer = options.public_key.empty() ? "" : ", signed by " + options.public_key;
  std::printf("checksums: %zu files as listed%s\n", artifact.Files().size(), signer.c_str());
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
  if (!options.answer.empty()) {
    std::cout << options.answer;
    return 0;
  }
  return options.selftest ? CheckHere(options) : ScoreImages(options);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Run({argv + (argc > 0 ? 1 : 0), argv + argc});
  } catch (const patchcore::UsageError& error) {
    Complain(std::string("error: ") + error.what() + "; see patchcore_infer --help");
    return 2;
  } catch (const patchcore::Error& error) {
    Complain(error.what());
  } catch (const std::bad_alloc&) {
    Complain("expected more memory than there is; close other programs");
  } catch (const std::system_error& error) {
    Complain(std::string("the system refused (") + error.what() + "); try a smaller --threads");
  } catch (const std::exception& error) {
    Complain(error.what());
  }
  return 1;
}
