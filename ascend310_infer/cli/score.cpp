#include "cli/score.hpp"

#include <array>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <set>
#include <string>
#include <vector>

#include "cli/batch.hpp"
#include "cli/freed_memory.hpp"
#include "cli/ordered_work.hpp"
#include "cli/reader.hpp"
#include "cli/row.hpp"
#include "errors.hpp"
#include "explain/heatmap.hpp"
#include "files/names.hpp"
#include "files/whole.hpp"
#include "memory_budget.hpp"

namespace patchcore {
namespace {

namespace fs = std::filesystem;

fs::path MapPath(const Options& options, const ImageFile& image, const std::string& kind) {
  return fs::path(options.maps) / WithSuffix(image.name, "." + kind + ".png");
}

void RefuseSharedMaps(const Options& options, const std::vector<ImageFile>& images) {
  std::set<std::string> seen;
  for (const ImageFile& image : images) {
    if (seen.insert(image.name).second) continue;
    throw ImageError(Shown(MapPath(options, image, "heatmap").string()) +
                     ": two images would get this file; "
                     "score their common folder, or one after the other with two folders");
  }
}

// The maps and regions of one image, as the options ask for them.
void AddOutput(const Options& options, const Detector& detector, const LoadedImage& read,
               MemoryBudget& memory, Row& row) {
  if (options.maps.empty() && !options.regions) return;
  MemoryBudget::Share share(memory);
  share.Take(DrawingBytes(read.input.placement));
  const auto& size = detector.manifest().preprocess;
  const Placement& place = read.input.placement;
  const std::vector<float>& map = row.result.anomaly_map;
  const auto laid = MapOnPhotograph(map, size.height, size.width, place);
  if (!options.maps.empty()) {
    const auto scale = ScaleOf(detector.calibration());
    const fs::path heatmap = MapPath(options, read.image, "heatmap");
    WriteHeatmap(heatmap, read.photograph, laid, scale);
    WriteMap(MapPath(options, read.image, "map"), map, size.height, size.width, scale);
    row.map = Shown(heatmap.string());
  }
  if (options.regions) {
    row.regions = FindRegions(laid, place.photo_height, place.photo_width,
                              detector.calibration().pixel_threshold);
  }
}

std::string TimingsLine(const LoadedImage& read, const Timings& ms) {
  std::array<char, 160> text{};
  std::snprintf(text.data(), text.size(),
                "read %.2f ms, features %.2f ms, search %.2f ms, score %.2f ms\n", read.read_ms,
                ms.features_ms, ms.search_ms, ms.score_ms);
  return "timings: " + read.image.shown + ": " + text.data();
}

Report ReportOn(const Options& options, Detector& detector, MemoryBudget& memory,
                const ImageBatch& batch) {
  const auto predict = [&](const auto& inputs) { return detector.PredictBatch(inputs); };
  const auto finish = [&](const LoadedImage& read, Row& row) {
    AddOutput(options, detector, read, memory, row);
  };
  Report report{ScoreBatch(batch, predict, finish), {}};
  for (std::size_t i = 0; options.timings && i < report.rows.size(); ++i) {
    const Row& row = report.rows[i];
    if (row.error.empty()) report.notes += TimingsLine(batch.images[i], row.result.timings);
  }
  return report;
}

// Prints rows and gathers the table.
class Output {
 public:
  void Write(const Report& report) {
    for (const Row& row : report.rows) {
      if (!row.error.empty()) Complain(row.error);
      if (!row.note.empty()) Complain(row.note);
      refused_ = refused_ || !row.error.empty();
      table_ += CsvLine(row);
      std::cout << JsonLine(row);
    }
    std::cerr << report.notes;
    if (!std::cout.flush()) throw Error("standard output: cannot be written; free the disk");
  }

  const std::string& table() const { return table_; }
  bool refused() const { return refused_; }

 private:
  std::string table_ = CsvHeader();
  bool refused_ = false;
};

void PrintTotal(const Detector& detector, std::size_t images, double seconds) {
  std::fprintf(stderr, "timings: %zu images in %.2f s, %.1f a second, on %s\n", images, seconds,
               static_cast<double>(images) / seconds, detector.EngineName().c_str());
  if (const std::string note = detector.SearchNote(); !note.empty()) {
    std::fprintf(stderr, "timings: %s\n", note.c_str());
  }
}

}  // namespace

void Complain(const std::string& reason) {
  std::cerr << "patchcore_infer: " + PrintableText(reason) + "\n";
}

// Loading the graphs frees more memory than the detector keeps.
Detector LoadDetector(const Artifact& artifact, const Options& options) {
  const HandedBack memory;
  return Detector(artifact, options.backend, options.search, options.roi, options.wanted);
}

void NoteKind(const Detector& detector, const Options& options) {
  if (const std::string note = detector.KindNote(); !note.empty()) {
    Complain(options.artifact + ": note: " + note);
  }
}

int ScoreImages(Options options) {
  std::vector<std::string> notes;
  const std::vector<ImageFile> images = ListImages(options.sources, notes);
  for (const std::string& note : notes) Complain(note);
  if (!options.maps.empty()) RefuseSharedMaps(options, images);
  if (!options.csv.empty()) CheckWritable(options.csv);
  const std::size_t workers =
      WorkersFor(options.backend.threads, (images.size() + options.batch - 1) / options.batch);
  options.backend.workers = workers;
  const auto artifact =
      Artifact::Open(options.artifact, true, options.public_key, options.is_private);
  Detector detector = LoadDetector(artifact, options);
  NoteKind(detector, options);
  Stopwatch watch;
  const bool keep_photographs = !options.maps.empty();
  MemoryBudget memory;
  const auto read = [&](const ImageFile& image) {
    return ReadOne(image, detector.manifest().preprocess, keep_photographs, memory);
  };
  ImageReader reader(images, options.batch, read);
  Output output;
  WorkInOrder(
      reader, workers,
      [&](const ImageBatch& batch) { return ReportOn(options, detector, memory, batch); },
      [&](const Report& report) { output.Write(report); });
  if (!options.csv.empty()) WriteWhole(options.csv, output.table());
  if (options.timings) PrintTotal(detector, images.size(), watch.Lap() / 1000);
  return output.refused() ? 1 : 0;
}

}  // namespace patchcore
