#include "engine/exact_graph.hpp"

#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "engine/onnx_file.hpp"
#include "errors.hpp"
#include "files/regular.hpp"
#include "manifest/upsampling.hpp"

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

// Weights (size, cells) that upsample a row of cells.
std::vector<float> Upsampled(std::size_t size, std::size_t cells, Upsampling mode) {
  std::vector<float> weights;
  for (std::size_t target = 0; target < size; ++target) {
    const UpsamplingTaps taps = TapsOf(target, size, cells, mode);
    std::vector<double> row(cells, 0.0);
    row[taps.lower] += 1 - taps.share;
    row[taps.upper] += taps.share;
    for (const double weight : row) weights.push_back(static_cast<float>(weight));
  }
  return weights;
}

class IndexGraph {
 public:
  IndexGraph(const Layout& layout, const BankPlaces& bank)
      : layout_(layout), bank_(bank), blocks_(Blocks(bank.rows)) {}

  std::string Build() {
    const Sides grid{Side(layout_.Height()), Side(layout_.Width())};
    Numbers("grid", {-1, grid[0], grid[1]});
    Numbers("one", {1});
    for (std::size_t layer = 0; layer < layout_.layers.size(); ++layer) Patches(layer);
    const std::string best = BestRows();
    Distances(best);
    Node("Reshape", {best, "grid"}, "rows");
    OnnxGraph graph{"patchcore_exact_index", std::move(nodes_), {}, {}, {}};
    for (auto& [name, content] : tensors_) graph.tensors.push_back(std::move(content));
    for (const LayerShape& layer : layout_.layers) {
      const Sides sides{Side(layer.channels), Side(layer.height), Side(layer.width)};
      graph.inputs.push_back(OnnxEnd(layer.name, OnnxType::kFloat, sides));
    }
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

  std::string Matrix(const std::string& name, std::size_t size, std::size_t cells) {
    const std::vector<float> weights = Upsampled(size, cells, layout_.upsampling);
    return Tensor(name,
                  OnnxTensor(name, OnnxType::kFloat, {Side(size), Side(cells)}, Bytes(weights)));
  }

  // One row per cell of a layer: (B, C, h/s, w/s) -> (B·P/s², C), named q and the layer's number.
  void Patches(std::size_t number) {
    const LayerShape& layer = layout_.layers[number];
    const std::string last = Node("Transpose", {layer.name}, "last_" + std::to_string(number),
                                  {{"perm", Sides{0, 2, 3, 1}}});
    const std::string rows =
        Numbers("rows_of_" + std::to_string(layer.channels), {-1, Side(layer.channels)});
    Node("Reshape", {last, rows}, Query(number));
  }

  static std::string Query(std::size_t layer) { return "q" + std::to_string(layer); }

  // The upsampling of a layer, of rows of any width: (B·P/s², width) -> (B·P, width).
  std::string Upsample(const std::string& source, const LayerShape& layer, std::int64_t width,
                       const std::string& target) {
    if (layer.stride == 1) return source;
    const std::string stride = std::to_string(layer.stride);
    const std::string down = Matrix("down_" + stride, layout_.Height(), layer.height);
    const std::string across = Matrix("across_" + stride, layout_.Width(), layer.width);
    const std::string of = "_of_" + std::to_string(width);
    const std::string lines =
        Numbers("lines" + of + "_by_" + stride, {-1, Side(layer.width), width});
    const std::string columns = Numbers("columns" + of + "_by_" + stride,
                                        {-1, Side(layer.height), Side(layout_.Width()) * width});
    const std::string rows = Numbers("rows" + of, {-1, width});
    Node("Reshape", {source, lines}, target + "_coarse");
    Node("MatMul", {across, target + "_coarse"}, target + "_across");
    Node("Reshape", {target + "_across", columns}, target + "_columns");
    Node("MatMul", {down, target + "_columns"}, target + "_grid");
    return Node("Reshape", {target + "_grid", rows}, target);
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
    const std::string offset = Number("start_" + name, rows.first);
    const std::string score = Scores(name, rows);
    const auto [largest, winner] = Largest(score, rows.second - rows.first, name);
    return {largest, Node("Add", {winner, offset}, "row_" + name)};
  }

  // q·m - |m|²/2 of every patch and some rows, the coarsest layers first. An upsampling keeps
  // constants, so -|m|²/2 comes with the first product. Layers of one stride are added up before
  // they are upsampled.
  std::string Scores(const std::string& name, const Block& rows) {
    const std::int64_t count = rows.second - rows.first;
    const std::string norms = "norms_" + name;
    Tensor(norms, External(norms, OnnxType::kFloat, {count}, bank_.norms, rows));
    std::string total, added;
    for (std::size_t number = layout_.layers.size(); number-- > 0;) {
      const LayerShape& layer = layout_.layers[number];
      const bool first = number + 1 == layout_.layers.size();
      const bool starts = first || layout_.layers[number + 1].stride != layer.stride;
      if (starts) added = layer.stride == 1 ? total : "";
      const std::string of = std::to_string(number) + "_" + name;
      Names inputs{Query(number), Rows("m" + of, number, rows)};
      if (first) inputs.push_back(norms);
      if (!first && !added.empty()) inputs.push_back(added);
      added = Node("Gemm", inputs, "product_" + of,
                   {{"alpha", 1.0F}, {"beta", first ? -0.5F : 1.0F}, {"transB", std::int64_t{1}}});
      const bool ends = number == 0 || layout_.layers[number - 1].stride != layer.stride;
      if (layer.stride == 1 || !ends) continue;
      const std::string fine = Upsample(added, layer, count, "fine_" + of);
      total = total.empty() ? fine : Node("Add", {total, fine}, "sum_" + of);
    }
    return added;
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
    Names queries;
    for (std::size_t layer = 0; layer < layout_.layers.size(); ++layer) {
      const LayerShape& shape = layout_.layers[layer];
      queries.push_back(
          Upsample(Query(layer), shape, Side(shape.channels), Query(layer) + "_fine"));
    }
    std::string squares = Node("ConstantOfShape", {Node("Shape", {picks}, "count")}, "no_square");
    std::string below = Node("Less", {picks, "start_0"}, "below_0");
    for (std::size_t block = 0; block < blocks_.size(); ++block) {
      const std::string next = std::to_string(block + 1);
      const std::string end = Number("start_" + next, blocks_[block].second);
      const std::string earlier = below;
      below = Node("Less", {picks, end}, "below_" + next);
      const std::string inside = Node("Xor", {earlier, below}, "inside_" + std::to_string(block));
      squares = WinningPairs(std::to_string(block), blocks_[block], inside, squares, queries);
    }
    const std::string root = Node("Sqrt", {squares}, "distance");
    Node("Reshape", {root, "grid"}, "distances");
  }

  // Inserts the squared distances of the patches whose winner is in a block, (B·P).
  std::string WinningPairs(const std::string& block, const Block& rows, const std::string& inside,
                           const std::string& squares, const Names& queries) {
    const OnnxAttributes first{{"axis", std::int64_t{0}}};
    std::string patches = Node("NonZero", {inside}, "patches_" + block + "_column");
    patches = Node("Reshape", {patches, List()}, "patches_" + block);
    const std::string picked = Node("Gather", {"picks", patches}, "picked_" + block, first);
    const std::string winners = Node("Sub", {picked, "start_" + block}, "winners_" + block);
    std::string square;
    for (std::size_t layer = 0; layer < queries.size(); ++layer) {
      const std::string name = std::to_string(layer) + "_" + block;
      const std::string own = Node("Gather", {queries[layer], patches}, "own_" + name, first);
      const std::string stored = Stored("m" + name, layer, rows);
      const std::string there = Node("Gather", {stored, winners}, "there_" + name, first);
      const std::string nearest = Float32(there, "nearest_" + name);
      const std::string difference = Node("Sub", {own, nearest}, "difference_" + name);
      const std::string part = Node("ReduceSumSquare", {difference}, "part_" + name,
                                    {{"axes", Sides{1}}, {"keepdims", std::int64_t{0}}});
      square = square.empty() ? part : Node("Add", {square, part}, "square_" + name);
    }
    return Node("ScatterElements", {squares, patches, square}, "squares_" + block, first);
  }

  std::string List() { return Numbers("list", {-1}); }

  // Rows of a layer of the bank, in float32.
  std::string Rows(const std::string& name, std::size_t layer, const Block& rows) {
    return Float32(Stored(name, layer, rows), name);
  }

  bool IsHalf() const { return bank_.precision == BankPrecision::kFloat16; }

  std::string Float32(const std::string& stored, const std::string& name) {
    return IsHalf() ? Node("Cast", {stored}, name, {{"to", std::int64_t{1}}}) : stored;
  }

  // Rows of a layer of the bank as they are stored; returns their name.
  std::string Stored(const std::string& name, std::size_t layer, const Block& rows) {
    const std::string stored = IsHalf() ? name + "_half" : name;
    const Sides shape{rows.second - rows.first, Side(layout_.layers[layer].channels)};
    const OnnxType type = IsHalf() ? OnnxType::kFloat16 : OnnxType::kFloat;
    return Tensor(stored, External(stored, type, shape, bank_.layers[layer], rows));
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

  const Layout& layout_;
  const BankPlaces& bank_;
  std::vector<Block> blocks_;
  Names nodes_;
  std::vector<std::pair<std::string, std::string>> tensors_;  // name and content, as added
  std::map<std::string, std::size_t> known_;
};

}  // namespace

std::string ExactGraph(const Layout& layout, const BankPlaces& bank) {
  return IndexGraph(layout, bank).Build();
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
