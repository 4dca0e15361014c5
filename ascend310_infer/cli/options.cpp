#include "cli/options.hpp"

#include <charconv>

#include "cores.hpp"

namespace patchcore {
namespace {

std::uint32_t Number(const std::string& name, const std::string& text, std::uint32_t smallest) {
  std::uint32_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, failure] = std::from_chars(text.data(), end, value);
  if (failure != std::errc() || stopped != end || value < smallest || value > 65535) {
    throw UsageError("argument " + name + ": expected a number from " + std::to_string(smallest) +
                     " to 65535, got '" + text + "'");
  }
  return value;
}

double Real(const std::string& name, const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, failure] = std::from_chars(text.data(), end, value);
  if (failure != std::errc() || stopped != end || text.empty()) {
    throw UsageError("argument " + name + ": invalid float value: '" + text + "'");
  }
  return value;
}

[[noreturn]] void RefuseChoice(const std::string& name, const std::string& text,
                               const std::string& choices) {
  throw UsageError("argument " + name + ": expected " + choices + ", got '" + text + "'");
}

Search SearchNamed(const std::string& name, const std::string& value) {
  if (value == "auto") return Search::kAuto;
  if (value == "exact") return Search::kExact;
  if (value == "engine") return Search::kEngine;
  if (value != "portable") RefuseChoice(name, value, "auto, exact, engine or portable");
  return Search::kPortable;
}

// One option that takes a value.
void SetValue(Options& options, const std::string& name, const std::string& value) {
  if (name == "--device") {
    if (value != "cpu" && value != "ascend") RefuseChoice(name, value, "cpu or ascend");
    options.backend.device = value == "cpu" ? Device::kCpu : Device::kAscend;
  } else if (name == "--device-id") {
    options.backend.device_id = Number(name, value, 0);
  } else if (name == "--threads") {
    options.backend.threads = Number(name, value, 1);
  } else if (name == "--batch") {
    options.batch = Number(name, value, 1);
  } else if (name == "--search") {
    options.search = SearchNamed(name, value);
  } else if (name == "--threshold") {
    options.wanted.threshold = Real(name, value);
  } else if (name == "--target-fpr") {
    options.wanted.target_fpr = Real(name, value);
  } else if (name == "--maps") {
    if (value.empty()) RefuseChoice(name, value, "a folder");
    options.maps = value;
  } else if (name == "--roi") {
    if (value.empty()) RefuseChoice(name, value, "a mask picture");
    options.roi = value;
  } else if (name == "--public-key") {
    if (value.empty()) RefuseChoice(name, value, "a file");
    options.public_key = value;
  } else if (name == "--mindir") {
    if (value.empty()) RefuseChoice(name, value, "a file");
    options.backend.mindir = value;
  } else if (name == "--index-mindir") {
    if (value.empty()) RefuseChoice(name, value, "a file");
    options.backend.index_mindir = value;
  } else {
    throw UsageError("unrecognized arguments: " + name);
  }
}

bool SetFlag(Options& options, const std::string& name) {
  if (name == "--selftest") return options.selftest = true;
  if (name == "--timings") return options.timings = true;
  if (name == "--help" || name == "-h") return options.help = true;
  if (name == "--version") return options.version = true;
  return false;
}

bool TakesValue(const std::string& name) {
  return name == "--device" || name == "--device-id" || name == "--threads" ||
         name == "--batch" || name == "--search" || name == "--maps" || name == "--roi" ||
         name == "--mindir" || name == "--index-mindir" || name == "--threshold" ||
         name == "--target-fpr" || name == "--public-key";
}

}  // namespace

Options ParseOptions(const std::vector<std::string>& arguments) {
  Options options;
  options.backend.threads = UsableCores();
  std::vector<std::string> places;
  bool only_places = false;  // after "--"
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (only_places || argument.size() < 2 || argument[0] != '-') {
      places.push_back(argument);
    } else if (argument == "--") {
      only_places = true;
    } else if (SetFlag(options, argument)) {
      continue;
    } else if (const std::size_t equals = argument.find('='); equals != std::string::npos) {
      SetValue(options, argument.substr(0, equals), argument.substr(equals + 1));
    } else if (TakesValue(argument) && i + 1 == arguments.size()) {
      throw UsageError("argument " + argument + ": expected a value");
    } else {
      SetValue(options, argument, TakesValue(argument) ? arguments[++i] : "");
    }
  }
  if (options.help || options.version) return options;
  if (places.empty()) throw UsageError("the following arguments are required: ARTIFACT");
  options.artifact = places.front();
  options.sources.assign(places.begin() + 1, places.end());
  if (options.sources.empty() && !options.selftest) {
    throw UsageError("the following arguments are required: IMAGE_OR_FOLDER");
  }
  if (options.wanted.threshold && options.wanted.target_fpr) {
    throw UsageError("argument --target-fpr: not allowed with argument --threshold");
  }
  const std::string converted = options.backend.mindir + options.backend.index_mindir;
  if (!options.public_key.empty() && !converted.empty()) {
    throw UsageError("argument --public-key: goes with neither --mindir nor --index-mindir, whose "
                     "files nobody signed");
  }
  if (!options.sources.empty() && options.selftest) {
    throw UsageError("argument --selftest: takes the artifact's own picture, no others");
  }
  if (!options.roi.empty() && options.selftest) {
    throw UsageError("argument --roi: not allowed with --selftest, which takes the artifact's own");
  }
  return options;
}

std::string Usage() {
  return "usage: patchcore_infer ARTIFACT IMAGE_OR_FOLDER... [--device cpu|ascend]\n"
         "                       [--device-id N] [--mindir FILE] [--index-mindir FILE]\n"
         "                       [--threads N] [--batch N] [--search auto|exact|engine|portable]\n"
         "                       [--roi MASK] [--maps DIR] [--timings]\n"
         "                       [--threshold X | --target-fpr R] [--public-key PEM]\n"
         "       patchcore_infer ARTIFACT --selftest [--device cpu|ascend] [--device-id N]...\n";
}

std::string Help() {
  return Usage() + R"(
Score pictures with a PatchCore artifact: one JSON line each, with the keys of
`patchcore-runtime score`. Exit code 0: done, 1: something was refused, 2: wrong usage.

  --selftest          verify checksums and run the artifact's own self-test on this device
  --device NAME       cpu (default) or ascend
  --device-id N       which Ascend device (default: 0)
  --mindir FILE       with MindSpore: what converter_lite made of features.mindir; the artifact's
                      own file otherwise
  --index-mindir FILE the same for index.mindir
  --threads N         threads on the CPU (default: the cores given); with more than one, up to
                      four pictures are in work at once
  --batch N           pictures that go through the network together (default: 1); a converted
                      model's fixed batch is filled up where pictures are missing
  --search KIND       auto (default): the artifact's own kind of index, exact or hnsw; the
                      faiss kinds are searched exactly, which is noted on stderr;
                      exact: the faster of the two exact ones below, on a CPU the portable one;
                      engine: the engine's own exact search where it has one, with MindSpore a
                      shortlist by the device that the host ranks and proves;
                      portable: the built-in exact one, the reference
  --roi MASK          look only where this picture of a photograph is white, inside of the
                      artifact's own region
  --maps DIR          per picture, write NAME.heatmap.png (photograph, overlay, colour bar) and
                      NAME.map.png (16-bit map in input geometry: value = grey * 4 *
                      calibration.heatmap.high / 65535)
  --threshold X       image threshold in place of the artifact's, in the unit of the score
  --target-fpr R      share of good parts that may be flagged, in place of the one the artifact
                      was fitted for; both thresholds follow from its held-out scores, and
                      heatmap.high (see --maps) follows the pixel threshold
  --public-key PEM    refuse an artifact that this ed25519 key has not signed
  --timings           say on stderr how long each stage took
  --version           print the version

examples:
  patchcore_infer artifacts/bottle --selftest
  patchcore_infer artifacts/bottle photo.png more_photos/ --maps heatmaps/
  patchcore_infer artifacts/bottle photos/ --device ascend --device-id 0
)";
}

}  // namespace patchcore
