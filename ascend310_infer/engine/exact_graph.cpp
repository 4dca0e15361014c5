#include "engine/exact_graph.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "engine/onnx_file.hpp"
#include "errors.hpp"
#include "files/regular.hpp"

namespace patchcore {
namespace {

constexpr std::int64_t kBlockRows = 2048, kGroup = 64;
constexpr char kLocation[] = "memory_bank.bin";

using Block = std::pair<std::int64_t, std::int64_t>;  // its first row, and the row after its last

std::vector<Block> Blocks(std::int64_t rows) {
  const std::int64_t grouped = rows - rows % kGroup;
  std::vector<std::int64_t> starts;
  for (std::int64_t start = 0; start < grouped; start += kBlockRows) starts.push_back(start);
  if (rows > grouped) starts.push_back(grouped);
  starts.push_back(rows);
  std::vector<Block> blocks;
  for (std::size_t i = 0; i + 1 < starts.size(); ++i) blocks.emplace_back(starts[i], starts[i + 1]);
  return blocks;
}

template <typename T>
std::string Bytes(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// Weights (2·cells, cells) that upsample a row of cells, with half-pixel centres.
std::vector<float> Upsampled(std::size_t cells, Upsampling mode) {
  std::vector<float> weights(2 * cells * cells);
  for (std::size_t target = 0; target < 2 * cells; ++target) {
    float* row = weights.data() + target * cells;
    const std::size_t cell = target / 2;
    if (mode == Upsampling::kNearest) {
      row[cell] = 1;
      continue;
    }
    // An even target lies a quarter before its cell's centre, an odd one a quarter behind it.
    const std::size_t other =
        target % 2 == 0 ? (cell == 0 ? 0 : cell - 1) : std::min(cell + 1, cells - 1);
    row[cell] += 0.75F;
    row[other] += 0.25F;
  }
  return weights;
}

class IndexGraph {
 public:
  IndexGraph(const Features& features, const BankPlaces& bank)
      : features_(features), bank_(bank), blocks_(Blocks(bank.rows)) {}

  std::string Build() {
    const LayerShape &layer2 = features_.layer2, &layer3 = features_.layer3;
    const Sides grid{Side(layer2.height), Side(layer2.width)};
    Numbers("grid2", {-1, grid[0], grid[1]});
    Matrix("down", layer3.height);
    Matrix("across", layer3.width);
    Numbers("one", {1});
    Patches("layer2", layer2);
    Patches("layer3", layer3);
    const std::string best = BestRows();
    Distances(best);
    Node("Reshape", {best, "grid2"}, "rows");
    OnnxGraph graph{"patchcore_exact_index", std::move(nodes_), {}, {}, {}};
    for (auto& [name, content] : tensors_) graph.tensors.push_back(std::move(content));
    graph.inputs = {OnnxEnd("layer2", OnnxType::kFloat, {Side(layer2.channels), grid[0], grid[1]}),
                    OnnxEnd("layer3", OnnxType::kFloat,
                            {Side(layer3.channels), Side(layer3.height), Side(layer3.width)})};
    graph.outputs = {OnnxEnd("distances", OnnxType::kFloat, grid),
                     OnnxEnd("rows", OnnxType::kInt64, grid)};
    return SearchModel(graph);
  }

 private:
  static std::int64_t Side(std::size_t side) { return static_cast<std::int64_t>(side); }

  std::string Node(const std::string& kind, const Names& inputs, const std::string& output,
                   const OnnxAttributes& attributes = {}) {
    nodes_.push_back(OnnxNode(kind, inputs, {output}, output, attributes));
    return output;
  }

  // Adds a tensor, unless the name exists; returns the name.
  std::string Tensor(const std::string& name, std::string content) {
    if (known_.emplace(name, tensors_.size()).second) tensors_.emplace_back(name, content);
    return name;
  }

  std::string Numbers(const std::string& name, const Sides& values) {
    return Tensor(name, OnnxTensor(name, OnnxType::kInt64, {Side(values.size())}, Bytes(values)));
  }

  std::string Number(const std::string& name, std::int64_t value) {
    return Tensor(name, OnnxTensor(name, OnnxType::kInt64, {}, Bytes(Sides{value})));
  }

  void Matrix(const std::string& name, std::size_t cells) {
    const std::vector<float> weights = Upsampled(cells, features_.layer3_upsampling);
    Tensor(name,
           OnnxTensor(name, OnnxType::kFloat, {Side(2 * cells), Side(cells)}, Bytes(weights)));
  }

  // One row per patch: (B, C, h, w) -> (B·h·w, C), named q2 or q3.
  void Patches(const std::string& layer, const LayerShape& shape) {
    Node("Transpose", {layer}, layer + "_last", {{"perm", Sides{0, 2, 3, 1}}});
    Numbers(layer + "_rows", {-1, Side(shape.channels)});
    Node("Reshape", {layer + "_last", layer + "_rows"}, "q" + layer.substr(5));
  }

  // U of rows of any width: (B·P/4, width) -> (B·P, width).
  std::string Upsample(const std::string& source, std::int64_t width, const std::string& target) {
    const std::int64_t height3 = Side(features_.layer3.height);
    const std::int64_t width3 = Side(features_.layer3.width);
    const std::string of = "_of_" + std::to_string(width);
    Numbers("lines" + of, {-1, width3, width});
    Numbers("columns" + of, {-1, height3, 2 * width3 * width});
    Numbers("rows" + of, {-1, width});
    Node("Reshape", {source, "lines" + of}, target + "_coarse");
    Node("MatMul", {"across", target + "_coarse"}, target + "_across");
    Node("Reshape", {target + "_across", "columns" + of}, target + "_columns");
    Node("MatMul", {"down", target + "_columns"}, target + "_grid");
    return Node("Reshape", {target + "_grid", "rows" + of}, target);
  }

  // A running maximum of q·m - |m|²/2 over blocks; the winners' name, (B·P, 1).
  std::string BestRows() {
    std::string best_score, best;
    for (std::size_t block = 0; block < blocks_.size(); ++block) {
      const std::string name = std::to_string(block);
      const auto [score, winner] = BlockMaximum(name, blocks_[block]);
      if (best.empty()) {
        best_score = score;
        best = winner;
        continue;
      }
      const std::string better = Node("Greater", {score, best_score}, "better_" + name);
      best_score = Node("Where", {better, score, best_score}, "best_score_" + name);
      best = Node("Where", {better, winner, best}, "best_row_" + name);
    }
    return best;
  }

  // The largest score of each patch among some rows, and its row; both (B·P, 1).
  std::pair<std::string, std::string> BlockMaximum(const std::string& name, const Block& rows) {
    const std::int64_t count = rows.second - rows.first;
    const std::string rows2 = Rows("m2_" + name, 2, rows), rows3 = Rows("m3_" + name, 3, rows);
    const std::string norms = "norms_" + name;
    Tensor(norms, External(norms, OnnxType::kFloat, {count}, bank_.norms, rows));
    const std::string offset = Number("start_" + name, rows.first);
    const std::string coarse =
        Node("Gemm", {"q3", rows3, norms}, "coarse_" + name,
             {{"alpha", 1.0F}, {"beta", -0.5F}, {"transB", std::int64_t{1}}});
    const std::string fine = Upsample(coarse, count, "fine_" + name);
    const std::string score =
        Node("Gemm", {"q2", rows2, fine}, "score_" + name, {{"transB", std::int64_t{1}}});
    const auto [largest, winner] = Largest(score, count, name);
    return {largest, Node("Add", {winner, offset}, "row_" + name)};
  }

  // The maximum of each row of (B·P, rows) and its column; of equal ones the first.
  std::pair<std::string, std::string> Largest(const std::string& score, std::int64_t rows,
                                              const std::string& name) {
    if (rows % kGroup != 0) return Top(score, name);
    const std::string groups =
        Numbers("groups_of_" + std::to_string(rows), {-1, rows / kGroup, kGroup});
    Node("Reshape", {score, groups}, "groups_" + name);
    Node("ReduceMax", {"groups_" + name}, "maxima_" + name,
         {{"axes", Sides{2}}, {"keepdims", std::int64_t{0}}});
    const std::string group = Top("maxima_" + name, name + "_group").second;
    Node("GatherND", {"groups_" + name, group}, "members_" + name,
         {{"batch_dims", std::int64_t{1}}});
    const auto [largest, column] = Top("members_" + name, name + "_member");
    Node("Mul", {group, Number("group", kGroup)}, "before_" + name);
    return {largest, Node("Add", {"before_" + name, column}, "winner_" + name)};
  }

  std::pair<std::string, std::string> Top(const std::string& values, const std::string& name) {
    const std::string largest = "largest_" + name, column = "column_" + name;
    nodes_.push_back(OnnxNode("TopK", {values, "one"}, {largest, column}, "top_" + name,
                              {{"axis", std::int64_t{1}}}));
    return {largest, column};
  }

  // Distances from the differences of the winning pairs, without cancellation.
  void Distances(const std::string& winners) {
    const std::string picks = Node("Reshape", {winners, List()}, "picks");
    const std::string fine = Upsample("q3", Side(features_.layer3.channels), "q3_fine");
    std::string squares = Node("ConstantOfShape", {Node("Shape", {picks}, "count")}, "no_square");
    std::string below = Node("Less", {picks, "start_0"}, "below_0");
    for (std::size_t block = 0; block < blocks_.size(); ++block) {
      const std::string next = std::to_string(block + 1);
      const std::string end = Number("start_" + next, blocks_[block].second);
      const std::string earlier = below;
      below = Node("Less", {picks, end}, "below_" + next);
      const std::string inside = Node("Xor", {earlier, below}, "inside_" + std::to_string(block));
      squares = WinningPairs(std::to_string(block), blocks_[block], inside, squares, fine);
    }
    const std::string root = Node("Sqrt", {squares}, "distance");
    Node("Reshape", {root, "grid2"}, "distances");
  }

  // Inserts the squared distances of the patches whose winner is in a block, (B·P).
  std::string WinningPairs(const std::string& block, const Block& rows, const std::string& inside,
                           const std::string& squares, const std::string& fine) {
    const OnnxAttributes first{{"axis", std::int64_t{0}}};
    std::string patches = Node("NonZero", {inside}, "patches_" + block + "_column");
    patches = Node("Reshape", {patches, List()}, "patches_" + block);
    const std::string picked = Node("Gather", {"picks", patches}, "picked_" + block, first);
    const std::string winners = Node("Sub", {picked, "start_" + block}, "winners_" + block);
    Names parts;
    for (const int layer : {2, 3}) {
      const std::string name = "layer" + std::to_string(layer) + "_" + block;
      const std::string own =
          Node("Gather", {layer == 2 ? "q2" : fine, patches}, name + "_own", first);
      const std::string stored = Stored("m" + std::to_string(layer) + "_" + block, layer, rows);
      const std::string there = Node("Gather", {stored, winners}, name + "_picked", first);
      const std::string nearest = Float32(there, name + "_nearest");
      const std::string difference = Node("Sub", {own, nearest}, name + "_difference");
      parts.push_back(Node("ReduceSumSquare", {difference}, name + "_square",
                           {{"axes", Sides{1}}, {"keepdims", std::int64_t{0}}}));
    }
    const std::string square = Node("Add", parts, "square_" + block);
    return Node("ScatterElements", {squares, patches, square}, "squares_" + block, first);
  }

  std::string List() { return Numbers("list", {-1}); }

  // Rows of a layer of the bank, in float32.
  std::string Rows(const std::string& name, int layer, const Block& rows) {
    return Float32(Stored(name, layer, rows), name);
  }

  bool IsHalf() const { return bank_.precision == BankPrecision::kFloat16; }

  std::string Float32(const std::string& stored, const std::string& name) {
    return IsHalf() ? Node("Cast", {stored}, name, {{"to", std::int64_t{1}}}) : stored;
  }

  // Rows of a layer of the bank as they are stored; returns their name.
  std::string Stored(const std::string& name, int layer, const Block& rows) {
    const std::string stored = IsHalf() ? name + "_half" : name;
    const std::size_t channels = layer == 2 ? features_.layer2.channels : features_.layer3.channels;
    return Tensor(stored, External(stored, IsHalf() ? OnnxType::kFloat16 : OnnxType::kFloat,
                                   {rows.second - rows.first, Side(channels)},
                                   layer == 2 ? bank_.layer2 : bank_.layer3, rows));
  }

  std::string External(const std::string& name, OnnxType type, const Sides& shape,
                       const ByteRange& section, const Block& rows) const {
    const std::uint64_t row_bytes = section.size / static_cast<std::uint64_t>(bank_.rows);
    const auto start = static_cast<std::uint64_t>(rows.first);
    const auto count = static_cast<std::uint64_t>(rows.second - rows.first);
    return ExternalTensor(
        name, type, shape,
        ExternalPlace(kLocation, section.offset + start * row_bytes, count * row_bytes));
  }

  const Features& features_;
  const BankPlaces& bank_;
  std::vector<Block> blocks_;
  Names nodes_;
  std::vector<std::pair<std::string, std::string>> tensors_;  // name and content, as added
  std::map<std::string, std::size_t> known_;
};

}  // namespace

std::string ExactGraph(const Features& features, const BankPlaces& bank) {
  return IndexGraph(features, bank).Build();
}

void ExpectContent(const std::filesystem::path& path, const std::string& content) {
  bool same = false;
  try {
    const MappedFile file(RegularFile(path, kAnySize, Links::kOwnFolder));
    same = file.bytes() == content;
  } catch (const FileError& error) {
    throw ArtifactError(path.string() + ": " + error.what() + "; copy the folder again");
  }
  if (!same) {
    throw ArtifactError(path.string() +
                        ": expected the search that follows from manifest.json and "
                        "memory_bank.bin, got another; copy the folder again");
  }
}

}  // namespace patchcore
