// manifest.json -> structs with the names of artifacts/FORMAT.md; the twin of
// patchcore_runtime/manifest/manifest.py.
//
// Text of manifest.json -> Manifest, or ArtifactError naming the field. All lengths in pixels.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "manifest/features.hpp"

namespace patchcore {

enum class Resize { kStretch, kShorterSide };
enum class ResampleFilter { kBilinear, kBicubic, kLanczos };
enum class IndexKind { kExact, kHnsw, kFaissFlat, kFaissIvfpq };
enum class BankPrecision { kFloat32, kFloat16 };
enum class RegionKind { kWhole, kMask };
enum class Thumbnails { kNone, kJpeg };
enum class ImageScore { kMax, kMap, kPaper, kModelzoo };
enum class Distance { kEuclidean, kSquared };
enum class Border { kRepeated, kMirrored };

inline constexpr std::uint32_t kWhite16Bits = 65535;

// Image -> input: resize, then keep the central (height, width).
struct Preprocessing {
  Resize resize = Resize::kStretch;
  std::size_t resize_height = 0;  // at most 8192
  std::size_t resize_width = 0;   // equal to resize_height for kShorterSide
  ResampleFilter filter = ResampleFilter::kBilinear;
  std::size_t height = 0;                    // H, 32 to resize_height
  std::size_t width = 0;                     // W, 32 to resize_width
  std::uint32_t white_level = kWhite16Bits;  // value of white in grey of 16 bits; 255 or more
};

// Which part of the input is inspected, and the size of the photographs that masks are drawn on.
struct RegionOfInterest {
  RegionKind kind = RegionKind::kWhole;  // kMask: roi.png says
  std::size_t photo_height = 0;          // each side 8 to 2^23
  std::size_t photo_width = 0;
};

// How the input is cut into tiles for the feature network; one tile is the whole input. In pixels.
struct Tiling {
  std::size_t tile_height = 0;  // up to preprocess.height
  std::size_t tile_width = 0;
  std::size_t overlap = 0;  // a multiple of Features::StepPx(), up to half of the shorter side
  std::size_t rows = 0;     // as many as cover the input
  std::size_t columns = 0;
};

// Shape of memory_bank.bin: M rows, K neighbours of each.
struct Bank {
  std::size_t rows = 0;
  std::size_t neighbours = 0;
  BankPrecision precision = BankPrecision::kFloat32;  // as stored
};

// Which index serves the artifact, and what it costs against the exact search, as measured.
struct Index {
  IndexKind kind = IndexKind::kExact;
  std::size_t effort = 0;  // candidates or cells looked at per patch; 0: all rows
  double recall = 1;
  double score_change = 0;
  std::size_t mindir_candidates = 0;  // rows that index.mindir gives per patch; 0: no such file
};

// Patch distances -> image score and anomaly map.
struct Scoring {
  ImageScore image_score = ImageScore::kMax;
  Distance distance = Distance::kEuclidean;  // unit of score and map
  double sigma_px = 0;                       // (0, 1024]
  Upsampling map_upsampling = Upsampling::kBilinear;
  Border map_border = Border::kRepeated;
};

// The artifact's one scale for heat maps, in map units.
struct HeatmapRange {
  double low = 0;
  double high = 0;
};

// Generalised Pareto tail: of good images, a share of `share` lies above `level`.
struct Tail {
  double level = 0;
  double share = 0;  // (0, 1]
  double scale = 0;  // above 0
  double shape = 0;  // -0.5 to 0.5
};

// One value of every held-out good image: sorted, and beyond them a tail.
struct HeldOut {
  double bias = 1;             // factor that the values were multiplied by
  std::vector<double> values;  // ascending, one for each of `ranks`
  Tail tail;
};

// Limits beyond which an image does not show the learned part; scoring/gate.hpp applies them.
struct Gate {
  double usual_distance = 0;    // Euclidean, of held-out good images: the median of their medians
  double largest_distance = 0;  // above usual_distance
  std::size_t usual_rows = 0;   // at least 1
  std::size_t fewest_rows = 0;  // up to usual_rows
};

struct Calibration {
  std::string method;
  std::size_t images = 0;  // held-out; 0: thresholds alone
  std::size_t groups = 0;
  std::size_t folds = 0;
  double target_fpr = 0;
  double image_threshold = 0;  // a score strictly above is anomalous
  std::array<double, 2> image_interval{};
  double pixel_threshold = 0;  // a map value strictly above is anomalous
  std::array<double, 2> pixel_interval{};
  HeatmapRange heatmap;
  std::vector<std::int64_t> ranks;  // which of the sorted values are stored, from 1 to `images`
  HeldOut image_scores;
  HeldOut map_maxima;
  std::optional<Gate> gate;  // none: it is not known which images show the part
};

// Lowest and highest value of one statistic among the normal images.
struct UsualRange {
  double low = 0;
  double high = 0;
};

// Of the statistics of the normal images those that a result names; both of luminance, 0 to 255.
struct Monitoring {
  UsualRange brightness;
  UsualRange contrast;
};

// Expected results for selftest.png; tolerances are relative.
struct SelfTest {
  double score = 0;
  std::vector<double> layer_magnitudes;     // mean and largest |value| of each layer in turn
  std::array<std::size_t, 4> defect_box{};  // top, left, bottom, right in input pixels
  double score_tolerance = 0;
  double map_tolerance = 0;
};

// The images the bank was made of; a bank row names one by its number.
struct Training {
  std::string category;
  std::vector<std::string> images;
  std::vector<std::string> skipped;
  std::vector<std::string> dropped;
  std::string digest;
  Thumbnails thumbnails = Thumbnails::kNone;  // in thumbnails.bin; this runner never shows them
};

// All of manifest.json except `config` and `provenance`, which no reader may use for a decision,
// and most of `monitoring`, which is validated but not needed here.
struct Manifest {
  Preprocessing preprocess;
  RegionOfInterest region;
  Tiling tiling;
  Features features;
  Bank memory_bank;
  Index index;
  Scoring scoring;
  Calibration calibration;
  Monitoring monitoring;
  SelfTest selftest;
  Training training;

  // The layers of one tile.
  Layout layout() const { return features.LayoutOf(tiling.tile_height, tiling.tile_width); }
};

// Reads manifest.json strictly: every field present, typed, in range, none unknown or repeated.
//   where      path of the file, for messages
// Throws ArtifactError: the text is no manifest of this version; it names the field and why.
Manifest ParseManifest(std::string_view text, const std::string& where);

}  // namespace patchcore
