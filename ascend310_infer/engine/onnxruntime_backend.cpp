// features.onnx and index.onnx on ONNX Runtime's CPU provider; the twin of
// patchcore_runtime/engine/session.py and search/exact.py.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <limits>

#include "engine/backend.hpp"
#include "engine/exact_graph.hpp"
#include "engine/network.hpp"
#include "engine/onnx_model.hpp"
#include "errors.hpp"
#include "messages.hpp"

namespace patchcore {
namespace {

using Names = std::vector<const char*>;

// Whether the library uses the given folder of weights during all of loading; it does since 1.21.
bool KnowsFolderOfWeights() {
  int major = 0, minor = 0;
  const bool known = std::sscanf(OrtGetApiBase()->GetVersionString(), "%d.%d", &major, &minor) == 2;
  return known && (major > 1 || minor >= 21);
}

// Loads a graph that this program wrote or checked; `path` is its file, beside its external data.
Ort::Session OpenSession(const Ort::Env& env, const std::filesystem::path& path,
                         const std::string& graph, bool external, std::size_t threads) {
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(static_cast<int>(threads));
  // A detector has two sessions. Threads that keep spinning after one run would slow the other:
  // 20 ms instead of 11 ms an image with resnet18 on two cores (benchmarks/bench/run.py).
  options.AddConfigEntry("session.force_spinning_stop", "1");
  try {
    // An older library looks for external data beside the file that it is given.
    if (!KnowsFolderOfWeights() && external) return Ort::Session(env, path.c_str(), options);
    options.AddConfigEntry("session.model_external_initializers_file_folder_path",
                           path.parent_path().c_str());
    return Ort::Session(env, graph.data(), graph.size(), options);
  } catch (const Ort::Exception& error) {
    throw ArtifactError(path.string() + ": onnxruntime cannot load it (" + OneLine(error.what()) +
                        ")");
  }
}

// A session's own threads. Each worker is a thread, too, so a session needs that many fewer. With
// one worker per thread nothing passes between threads; two cores then give 1.5 times the images.
std::size_t OwnThreads(const BackendOptions& options) {
  return options.threads - std::min(options.threads, options.workers) + 1;
}

// Checks the type and shape of an output, and gives its numbers.
template <typename T>
const T* Values(const Ort::Value& output, const std::string& name,
                const std::vector<std::int64_t>& shape, ONNXTensorElementDataType type) {
  const Ort::TensorTypeAndShapeInfo got = output.GetTensorTypeAndShapeInfo();
  if (got.GetElementType() != type || got.GetShape() != shape) {
    throw BackendError(name + ": expected " + ShapeText(shape) + " as manifest.json says, got " +
                       ShapeText(got.GetShape()) +
                       "; the files belong to different artifacts, copy the folder again");
  }
  return output.GetTensorData<T>();
}

class OnnxRuntimeBackend : public Backend {
 public:
  OnnxRuntimeBackend(const EngineFiles& files, const BackendOptions& options)
      : layout_(files.layout),
        rows_(files.bank.rows),
        features_path_(files.features_onnx),
        index_path_(files.index_onnx) {
    feature_session_ =
        OpenSession(env_, features_path_, FeatureGraph(), false, OwnThreads(options));
    if (options.search) {
      const std::string graph = ExactGraph(layout_, files.bank);
      ExpectContent(index_path_, graph);
      index_session_ = OpenSession(env_, index_path_, graph, true, OwnThreads(options));
    }
  }

  Layers Features(const std::uint8_t* images, std::size_t count) override {
    const std::array<std::int64_t, 4> shape{Side(count), Side(layout_.patch_px * layout_.Height()),
                                            Side(layout_.patch_px * layout_.Width()), 3};
    const auto size = static_cast<std::size_t>(shape[0] * shape[1] * shape[2] * shape[3]);
    // ONNX Runtime takes inputs by non-const pointers, but does not write to them.
    const Ort::Value input = Ort::Value::CreateTensor(memory_, const_cast<std::uint8_t*>(images),
                                                      size, shape.data(), shape.size());
    const std::string where = features_path_.string();
    const auto outputs = Run(where, feature_session_, {"images"}, &input, LayerNames());
    Layers layers;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const LayerShape& layer = layout_.layers[i];
      layers.push_back(LayerOf(outputs[i], where + ": " + layer.name, BatchShape(layer, count)));
    }
    return layers;
  }

  bool RunsConcurrently() const override { return true; }

  bool HasSearch() const override { return static_cast<bool>(index_session_); }

  NearestRows Nearest(const Layers& layers) override {
    const std::string where = index_path_.string();
    std::vector<Ort::Value> inputs;
    for (const Tensor& layer : layers) inputs.push_back(Borrowed(layer));
    const auto outputs =
        Run(where, index_session_, LayerNames(), inputs.data(), {"distances", "rows"});
    const std::int64_t height = Side(layout_.Height()), width = Side(layout_.Width());
    const std::vector<std::int64_t> shape{layers.at(0).shape.at(0), height, width};
    const float* distances = Values<float>(outputs[0], where + ": distances", shape,
                                           ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
    const std::int64_t* rows = Values<std::int64_t>(outputs[1], where + ": rows", shape,
                                                    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64);
    const std::int64_t patches = shape[0] * height * width;
    NearestRows nearest{{distances, distances + patches}, {rows, rows + patches}};
    for (const std::int64_t row : nearest.rows) {
      if (row >= 0 && row < rows_) continue;
      throw BackendError(where + ": rows: expected rows 0 to " + std::to_string(rows_ - 1) +
                         ", got " + std::to_string(row) + "; copy the folder again");
    }
    return nearest;
  }

  std::string Name() const override { return "ONNX Runtime " + Ort::GetVersionString(); }

 private:
  // The network, checked, with its large weights left in its file.
  std::string FeatureGraph() const {
    const OnnxModel model = ReadModel(features_path_);
    CheckEnds(CheckNetwork(features_path_, model));
    // Weights that stay in the file are mapped, where the library can.
    const std::size_t least =
        KnowsFolderOfWeights() ? kLargeTensor : std::numeric_limits<std::size_t>::max();
    return ModelBytes(model, features_path_.filename().string(), least);
  }

  // Refuses other outputs than the manifest's, or ends of another shape.
  void CheckEnds(const std::vector<NetworkEnd>& got) const {
    const std::int64_t p = Side(layout_.patch_px);
    std::vector<NetworkEnd> expected{
        {"images", {p * Side(layout_.Height()), p * Side(layout_.Width()), 3}}};
    for (const LayerShape& layer : layout_.layers) {
      expected.push_back(
          {layer.name, {Side(layer.channels), Side(layer.height), Side(layer.width)}});
    }
    const std::string advice = "; the files belong to different artifacts, copy the folder again";
    if (OutputNames(got) != OutputNames(expected)) {
      throw ArtifactError(features_path_.string() + ": expected the outputs " +
                          OutputNames(expected) + " as manifest.json says, got '" +
                          Printable(OutputNames(got), 80) + "'" + advice);
    }
    for (std::size_t i = 0; i < got.size(); ++i) {
      const auto& [name, shape] = expected[i];
      if (got[i].second == shape) continue;
      throw ArtifactError(features_path_.string() + ": " + name + ": expected (B" + Sides(shape) +
                          ") as manifest.json says, got (" + Sides(got[i].second).substr(2) + ")" +
                          advice);
    }
  }

  // "layer2, layer3".
  static std::string OutputNames(const std::vector<NetworkEnd>& ends) {
    std::string names;
    for (std::size_t i = 1; i < ends.size(); ++i) names += (i > 1 ? ", " : "") + ends[i].first;
    return names;
  }

  static std::int64_t Side(std::size_t value) { return static_cast<std::int64_t>(value); }

  Names LayerNames() const {
    Names names;
    for (const LayerShape& layer : layout_.layers) names.push_back(layer.name.c_str());
    return names;
  }

  // ", 64, 96, 3".
  static std::string Sides(const Shape& shape) {
    std::string text;
    for (const std::int64_t one : shape) text += ", " + std::to_string(one);
    return text.empty() ? ", " : text;
  }

  Ort::Value Borrowed(const Tensor& tensor) const {
    return Ort::Value::CreateTensor(memory_, const_cast<float*>(tensor.values.data()),
                                    tensor.values.size(), tensor.shape.data(), tensor.shape.size());
  }

  static Tensor LayerOf(const Ort::Value& output, const std::string& name,
                        const std::vector<std::int64_t>& shape) {
    const float* values = Values<float>(output, name, shape, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
    const std::size_t count = output.GetTensorTypeAndShapeInfo().GetElementCount();
    return {shape, {values, values + count}};
  }

  static std::vector<Ort::Value> Run(const std::string& where, Ort::Session& session,
                                     const Names& input_names, const Ort::Value* inputs,
                                     const Names& output_names) {
    try {
      return session.Run(Ort::RunOptions{nullptr}, input_names.data(), inputs, input_names.size(),
                         output_names.data(), output_names.size());
    } catch (const Ort::Exception& error) {
      throw BackendError(where + ": onnxruntime cannot run the graph (" + OneLine(error.what()) +
                         "); copy the artifact again");
    }
  }

  Layout layout_;
  std::int64_t rows_;
  Ort::Env env_{ORT_LOGGING_LEVEL_FATAL, "patchcore"};  // failures come as exceptions
  Ort::MemoryInfo memory_ = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::filesystem::path features_path_;
  std::filesystem::path index_path_;
  Ort::Session feature_session_{nullptr};
  Ort::Session index_session_{nullptr};
};

}  // namespace

std::unique_ptr<Backend> MakeOnnxRuntimeBackend(const EngineFiles& files,
                                                const BackendOptions& options) {
  return std::make_unique<OnnxRuntimeBackend>(files, options);
}

}  // namespace patchcore
