#include "cli/options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <utility>

#include "cores.hpp"
#include "version.hpp"

namespace patchcore {
namespace {

constexpr std::size_t kNameColumns = 26;  // of --help

constexpr const char* kDescription =
    "Score images with a PatchCore artifact, or check that this machine computes what the\n"
    "artifact's self-test expects. Each image gives one JSON line on stdout, with the keys of\n"
    "`patchcore-runtime score`. Exit code 0: done, 1: something was refused, 2: wrong usage.";

constexpr const char* kExamples =
    "Examples:\n"
    "  patchcore_infer artifacts/bottle --selftest\n"
    "  patchcore_infer artifacts/bottle photo.png more_photos/ --maps heatmaps/\n"
    "  patchcore_infer artifacts/bottle photos/ --device ascend --device-id 0\n";

[[noreturn]] void Refuse(const std::string& name, const std::string& expected,
                         const std::string& got) {
  throw CLI::ValidationError(name, "expected " + expected + ", got '" + got + "'");
}

std::uint32_t Number(const std::string& name, const std::string& text, std::uint32_t smallest) {
  std::uint32_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, failure] = std::from_chars(text.data(), end, value);
  if (failure != std::errc() || stopped != end || value < smallest || value > 65535) {
    Refuse(name, "a number from " + std::to_string(smallest) + " to 65535", text);
  }
  return value;
}

// Uses strtod, because std::from_chars reads no double before GCC 11. The locale is always "C".
double Real(const std::string& name, const std::string& text) {
  char* stopped = nullptr;
  const double value = std::strtod(text.c_str(), &stopped);
  const bool hexadecimal = text.find_first_of("xX") != std::string::npos;
  const bool spaced = text.empty() || std::isspace(static_cast<unsigned char>(text.front())) != 0;
  if (hexadecimal || spaced || stopped != text.c_str() + text.size())
    Refuse(name, "a number", text);
  return value;
}

// The options of the command, each with its one description.
class Parser {
 public:
  explicit Parser(Options& options) : options_(options), app_(kDescription, "patchcore_infer") {
    app_.get_formatter()->column_width(kNameColumns);
    app_.footer(kExamples);
    app_.set_help_flag("-h,--help", "Print this text.");
    app_.set_version_flag("--version", std::string("patchcore_infer ") + kVersion,
                          "Print the version.");
    AddPlaces();
    AddScoring();
    AddOutput();
    AddDevice();
  }

  // Throws UsageError.
  void Parse(std::vector<std::string> arguments) {
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
    for (std::string& argument : arguments) {
      const bool list = argument.size() > 1 && argument.front() == '[' && argument.back() == ']';
      if (list) argument.insert(0, "./");  // CLI11 would take a path in brackets for several
    }
    try {
      app_.parse(std::move(arguments));
    } catch (const CLI::CallForHelp&) {
      options_.answer = app_.help();
    } catch (const CLI::CallForVersion& version) {
      options_.answer = std::string(version.what()) + "\n";
    } catch (const CLI::ArgumentMismatch& error) {
      const std::string reason = error.what();  // begins with the option's name
      throw UsageError(reason.substr(0, reason.find(':')) + ": expected a value");
    } catch (const CLI::ParseError& error) {
      throw UsageError(error.what());
    }
  }

 private:
  // An option whose value `set` takes, or refuses by CLI::ValidationError; the last one counts.
  CLI::Option* Add(const std::string& name, const std::string& value, const std::string& group,
                   const std::string& description,
                   const std::function<void(const std::string&)>& set) {
    return app_.add_option_function<std::string>(name, set, description)
        ->type_name(value)
        ->group(group)
        ->take_last();
  }

  CLI::Option* AddText(const std::string& name, const std::string& value, const std::string& group,
                       const std::string& description, std::string& target) {
    return Add(name, value, group, description, [name, &target](const std::string& text) {
      if (text.empty()) Refuse(name, "a path", text);
      target = text;
    });
  }

  void AddPlaces() {
    app_.add_option("ARTIFACT", options_.artifact, "Folder that patchcore-build fit has written.")
        ->type_name("")
        ->required();
    app_.add_option("IMAGE_OR_FOLDER", options_.sources,
                    "PNG or JPEG files, and folders of them, which are searched.")
        ->type_name("");
  }

  void AddScoring() {
    const std::string group = "Scoring";
    Add("--threshold", "X", group,
        "Image threshold in place of the artifact's, in the unit\nof the score.",
        [this](const std::string& text) { options_.wanted.threshold = Real("--threshold", text); });
    Add("--target-fpr", "R", group,
        "Share of good parts that may be flagged, in place of the\n"
        "one the artifact was fitted for. Both thresholds follow\n"
        "from its held-out scores; heatmap.high (see --maps)\n"
        "follows the pixel threshold.",
        [this](const std::string& text) {
          options_.wanted.target_fpr = Real("--target-fpr", text);
        });
    AddText("--roi", "MASK", group,
            "Mask image: white is inspected, black is ignored. It\n"
            "must lie inside the artifact's own region of interest.",
            options_.roi);
    Add("--search", "KIND", group,
        "How the nearest memory-bank rows are found:\n"
        "auto      (default) the artifact's own kind of index,\n"
        "          exact or hnsw; the faiss kinds are searched\n"
        "          exactly, with a note on stderr\n"
        "exact     the faster of the two below; on a CPU portable\n"
        "engine    the engine's own exact search, if it has one;\n"
        "          with MindSpore the device lists candidates,\n"
        "          which the host ranks and proves\n"
        "portable  the built-in exact search, the reference",
        [this](const std::string& text) { options_.search = SearchNamed(text); });
    AddText("--public-key", "PEM", group,
            "Refuse an artifact that this ed25519 key has not signed.", options_.public_key);
    app_.add_flag(
            "--private", options_.is_private,
            "Copy the artifact into a temporary folder (TMPDIR) first, and verify and use the "
            "copy.")
        ->group(group);
  }

  void AddOutput() {
    const std::string group = "Output";
    AddText("--maps", "DIR", group,
            "For each image, write NAME.heatmap.png (photograph,\n"
            "overlay, colour bar) and NAME.map.png (16-bit map in\n"
            "input geometry: value = grey * 4 *\n"
            "calibration.heatmap.high / 65535).",
            options_.maps);
    AddText("--csv", "FILE", group,
            "Also write the scores as a CSV table, whole or not at all,\n"
            "at the end.",
            options_.csv);
    app_.add_flag("--regions", options_.regions,
                  "Add the areas above the pixel threshold to the JSON line:\n"
                  "box, area, peak, contour.")
        ->group(group);
    app_.add_flag("--timings", options_.timings, "Print on stderr how long each stage took.")
        ->group(group);
    app_.add_flag("--selftest", options_.selftest,
                  "Verify checksums and run the artifact's own self-test on\n"
                  "this device, instead of scoring images.")
        ->group(group);
  }

  void AddDevice() {
    const std::string group = "Device";
    Add("--device", "NAME", group, "cpu (default) or ascend.", [this](const std::string& text) {
      if (text != "cpu" && text != "ascend") Refuse("--device", "cpu or ascend", text);
      options_.backend.device = text == "cpu" ? Device::kCpu : Device::kAscend;
    });
    Add("--device-id", "N", group, "Which Ascend device (default: 0).",
        [this](const std::string& text) {
          options_.backend.device_id = Number("--device-id", text, 0);
        });
    Add("--threads", "N", group,
        "CPU threads (default: the cores this process may use).\n"
        "With more than one, up to four images are in work at once.",
        [this](const std::string& text) {
          options_.backend.threads = Number("--threads", text, 1);
        });
    Add("--batch", "N", group,
        "Images that go through the network together (default: 1).\n"
        "A converted model's fixed batch is filled up with copies.",
        [this](const std::string& text) { options_.batch = Number("--batch", text, 1); });
    AddText("--mindir", "FILE", group,
            "With MindSpore: the file that converter_lite made of\n"
            "features.mindir (default: the artifact's own file).",
            options_.backend.mindir);
    AddText("--index-mindir", "FILE", group, "The same for index.mindir.",
            options_.backend.index_mindir);
  }

  static Search SearchNamed(const std::string& text) {
    static const std::map<std::string, Search> kinds{{"auto", Search::kAuto},
                                                     {"exact", Search::kExact},
                                                     {"engine", Search::kEngine},
                                                     {"portable", Search::kPortable}};
    const auto kind = kinds.find(text);
    if (kind == kinds.end()) Refuse("--search", "auto, exact, engine or portable", text);
    return kind->second;
  }

  Options& options_;
  CLI::App app_;
};

}  // namespace

Options ParseOptions(const std::vector<std::string>& arguments) {
  Options options;
  options.backend.threads = UsableCores();
  Parser(options).Parse(arguments);
  if (!options.answer.empty()) return options;
  if (options.sources.empty() && !options.selftest) {
    throw UsageError("IMAGE_OR_FOLDER is required, at least one, unless --selftest is given");
  }
  if (options.wanted.threshold && options.wanted.target_fpr) {
    throw UsageError("--target-fpr: not allowed with --threshold; choose one of them");
  }
  const std::string converted = options.backend.mindir + options.backend.index_mindir;
  if (!options.public_key.empty() && !converted.empty()) {
    throw UsageError(
        "--public-key: goes with neither --mindir nor --index-mindir, whose files "
        "nobody signed");
  }
  if (!options.sources.empty() && options.selftest) {
    throw UsageError("--selftest: takes the artifact's own image, no others");
  }
  if (!options.roi.empty() && options.selftest) {
    throw UsageError("--roi: not allowed with --selftest, which takes the artifact's own region");
  }
  const bool output = !options.maps.empty() || !options.csv.empty() || options.regions;
  if (output && options.selftest) {
    throw UsageError("--selftest: writes neither --maps nor --csv nor --regions");
  }
  return options;
}

}  // namespace patchcore
