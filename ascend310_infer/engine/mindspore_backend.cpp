// features.mindir and index.mindir on MindSpore: Ascend 310/310P, or the CPU where MindSpore Lite
// offers it.
//
// One source serves two libraries. MindSpore Lite builds a model from its path; the older C++ SDK
// of MindSpore refuses that and needs Serialization::Load and Build(GraphCell). The device only
// lists candidates of the search; search/npu_shortlist.hpp ranks and proves them, so fp16 never
// decides.
#include <algorithm>
#include <cstring>
#include <exception>
#include <functional>
#include <map>

#include "engine/backend.hpp"
#include "errors.hpp"
#include "half.hpp"
#include "include/api/context.h"
#include "include/api/model.h"
#include "include/api/serialization.h"
#include "messages.hpp"

namespace patchcore {
namespace {

namespace ms = mindspore;

constexpr std::int64_t kMaxBatch = 65535;  // as --batch

// Runs one call of MindSpore; returns "" or the reason of a failure. Its libraries also throw, for
// instance for an absent device, and exceptions of several types.
std::string Failure(const std::function<ms::Status()>& call) {
  try {
    const ms::Status status = call();
    if (status.IsOk()) return "";
    const std::string reason = OneLine(status.ToString());
    return reason.empty() ? "failed without a reason" : reason;
  } catch (const std::exception& error) {
    return OneLine(error.what());
  }
}

std::shared_ptr<ms::Context> MakeContext(const BackendOptions& options) {
  auto context = std::make_shared<ms::Context>();
  if (options.device == Device::kAscend) {
    auto device = std::make_shared<ms::AscendDeviceInfo>();
    device->SetDeviceID(options.device_id);
    context->MutableDeviceInfo().push_back(device);
  } else {
    context->SetThreadNum(static_cast<std::int32_t>(options.threads));
    context->MutableDeviceInfo().push_back(std::make_shared<ms::CPUDeviceInfo>());
  }
  return context;
}

std::string DeviceName(const BackendOptions& options) {
  return options.device == Device::kCpu ? "cpu" : "ascend " + std::to_string(options.device_id);
}

std::unique_ptr<ms::Model> BuildModel(const std::string& path, const BackendOptions& options) {
  auto model = std::make_unique<ms::Model>();
  const std::string by_path =
      Failure([&] { return model->Build(path, ms::kMindIR, MakeContext(options)); });
  if (by_path.empty()) return model;
  ms::Graph graph;
  model = std::make_unique<ms::Model>();  // the state after a failed Build is not documented
  std::string by_graph =
      Failure([&] { return ms::Serialization::Load(path, ms::kMindIR, &graph); });
  if (by_graph.empty()) {
    by_graph = Failure([&] { return model->Build(ms::GraphCell(graph), MakeContext(options)); });
  }
  if (by_graph.empty()) return model;
  throw BackendError(path + ": MindSpore cannot run it on " + DeviceName(options) +
                     " (Build: " + by_path + "; Load: " + by_graph +
                     "); check --device, --device-id and the driver (npu-smi info)");
}

bool IsHalf(const ms::MSTensor& tensor) {
  return tensor.DataType() == ms::DataType::kNumberTypeFloat16;
}

std::size_t Count(const std::vector<std::int64_t>& shape) {
  std::size_t count = 1;
  for (const std::int64_t side : shape) count *= static_cast<std::size_t>(side);
  return count;
}

// The bytes of an output; their number follows from its shape and type.
std::shared_ptr<const void> Bytes(const ms::MSTensor& output, std::size_t number_size) {
  const std::size_t size = Count(output.Shape()) * number_size;
  std::shared_ptr<const void> bytes = output.Data();
  if (bytes == nullptr || output.DataSize() != size) {
    throw BackendError("mindspore: output " + ShapeText(output.Shape()) + ": expected " +
                       std::to_string(size) + " bytes, got " + std::to_string(output.DataSize()));
  }
  return bytes;
}

// Copies one output to the host, in float32.
std::vector<float> Floats(const ms::MSTensor& output) {
  std::vector<float> values(Count(output.Shape()));
  if (!IsHalf(output)) {
    std::memcpy(values.data(), Bytes(output, sizeof(float)).get(), values.size() * sizeof(float));
    return values;
  }
  const auto bytes = Bytes(output, sizeof(std::uint16_t));
  const auto* halves = static_cast<const std::uint16_t*>(bytes.get());
  std::transform(halves, halves + values.size(), values.begin(), FromHalf);
  return values;
}

std::vector<std::int32_t> Integers(const ms::MSTensor& output) {
  std::vector<std::int32_t> values(Count(output.Shape()));
  const auto bytes = Bytes(output, sizeof(std::int32_t));
  std::memcpy(values.data(), bytes.get(), values.size() * sizeof(std::int32_t));
  return values;
}

bool HoldsFloats(const ms::MSTensor& tensor) {
  return IsHalf(tensor) || tensor.DataType() == ms::DataType::kNumberTypeFloat32;
}

bool HoldsIntegers(const ms::MSTensor& tensor) {
  return tensor.DataType() == ms::DataType::kNumberTypeInt32;
}

// Requirements for the one input of a graph, with words for messages.
struct InputRule {
  enum ms::DataType type;
  const char* type_name;
  bool any_count;      // a model converted for another first side is accepted, too
  const char* advice;  // where it is another one
};

// One graph on one device.
class Graph {
 public:
  Graph(const std::string& path, const BackendOptions& options, InputRule rule)
      : name_("MindSpore on " + DeviceName(options)),
        rule_(std::move(rule)),
        model_(BuildModel(path, options)) {}

  const std::string& name() const { return name_; }

  // The input as the model takes it: of `shape` if its first side is free or equal, otherwise with
  // the first side that the model was converted for, if the rule allows any.
  ms::MSTensor Described(const std::vector<std::int64_t>& shape) {
    std::vector<ms::MSTensor> inputs = model_->GetInputs();
    if (!fixed_ && inputs.size() == 1 && inputs[0].Shape() != shape) {
      fixed_ = !Failure([&] { return model_->Resize(inputs, {shape}); }).empty();
      inputs = model_->GetInputs();
    }
    const bool typed = inputs.size() == 1 && inputs[0].DataType() == rule_.type;
    if (!typed || !Serves(inputs[0].Shape(), shape)) {
      const std::string got = inputs.empty() ? "no input" : ShapeText(inputs[0].Shape());
      throw BackendError(name_ + ": expected one " + rule_.type_name + " input " +
                         ShapeText(shape) + (rule_.any_count ? " or of another first side" : "") +
                         ", got " + got + (inputs.empty() || typed ? "" : " of another type") +
                         "; " + rule_.advice);
    }
    return inputs[0];
  }

  // Runs it on one input that `Described` gave; `data` holds all its bytes, not owned.
  std::vector<ms::MSTensor> Run(const ms::MSTensor& described, const void* data, std::size_t size) {
    // The constructor copies the bytes, in Lite and in the older SDK.
    const ms::MSTensor input(described.Name(), described.DataType(), described.Shape(), data, size);
    std::vector<ms::MSTensor> outputs;
    const std::string failure = Failure([&] { return model_->Predict({input}, &outputs); });
    if (!failure.empty()) throw BackendError(name_ + ": cannot run the graph (" + failure + ")");
    return outputs;
  }

  // The output of this shape and kind. Engines may rename outputs, and reorder those that differ in
  // shape or kind; outputs of one shape and kind come in the graph's order.
  //   earlier    how many outputs of that shape and kind come before it
  const ms::MSTensor& Find(const std::vector<ms::MSTensor>& outputs,
                           const std::vector<std::int64_t>& shape,
                           bool (*holds)(const ms::MSTensor&), std::size_t earlier = 0) const {
    std::string got;
    for (const ms::MSTensor& output : outputs) {
      if (holds(output) && output.Shape() == shape && earlier-- == 0) return output;
      got += (got.empty() ? "" : ", ") + ShapeText(output.Shape());
    }
    throw BackendError(name_ + ": expected an output " + ShapeText(shape) +
                       (holds == HoldsIntegers ? " of int32" : "") +
                       " as manifest.json says, got " + (got.empty() ? "none" : got) +
                       "; the model belongs to another artifact");
  }

 private:
  bool Serves(const std::vector<std::int64_t>& got, const std::vector<std::int64_t>& shape) const {
    if (got == shape) return true;
    return rule_.any_count && got.size() == shape.size() && got[0] >= 1 && got[0] <= kMaxBatch &&
           std::equal(got.begin() + 1, got.end(), shape.begin() + 1);
  }

  std::string name_;
  InputRule rule_;
  std::unique_ptr<ms::Model> model_;
  bool fixed_ = false;  // its first side cannot be resized
};

// Adds the layers of a batch's first `taken` images.
void Append(Tensor& layer, const std::vector<float>& batch, std::size_t batch_count,
            std::size_t taken) {
  const std::size_t size = batch.size() / batch_count;
  layer.values.insert(layer.values.end(), batch.begin(),
                      batch.begin() + static_cast<std::ptrdiff_t>(taken * size));
}

// The converted file of the options, or the artifact's own file after a check of its sum.
std::string ModelPath(const EngineFiles& files, const std::filesystem::path& own,
                      const std::string& converted) {
  if (!converted.empty()) return converted;
  files.verify(own);
  return own.string();
}

class MindSporeBackend : public Backend {
 public:
  MindSporeBackend(const EngineFiles& files, const BackendOptions& options)
      : layout_(files.layout) {
    if (!files.has_mindir) {
      throw ArtifactError(files.manifest.string() +
                          ": features.mindir: expected float32 for MindSpore, got none, as for an "
                          "int8 network and an own one; fit again without --quantize or --network");
    }
    network_ =
        std::make_unique<Graph>(ModelPath(files, files.features_mindir, options.mindir), options,
                                InputRule{ms::DataType::kNumberTypeUInt8, "uint8", true,
                                          "convert the artifact's features.mindir again"});
    if (!options.search || files.mindir_candidates == 0) return;
    search_ = std::make_unique<Graph>(
        ModelPath(files, files.index_mindir, options.index_mindir), options,
        InputRule{ms::DataType::kNumberTypeFloat32, "float32", false,
                  "convert the artifact's index.mindir again, for that many patches"});
    listed_rows_ = files.mindir_candidates;
  }

  // A converted model may have a fixed batch. The images are then divided into such batches, and
  // the last one is filled up with copies of its last image.
  Layers Features(const std::uint8_t* images, std::size_t count) override {
    const std::size_t height = layout_.patch_px * layout_.Height();
    const std::size_t width = layout_.patch_px * layout_.Width();
    const ms::MSTensor described =
        network_->Described({static_cast<std::int64_t>(count), static_cast<std::int64_t>(height),
                             static_cast<std::int64_t>(width), 3});
    const auto batch = static_cast<std::size_t>(described.Shape().front());
    const std::size_t image = height * width * 3;
    Layers layers;
    for (const LayerShape& layer : layout_.layers) layers.push_back({BatchShape(layer, count), {}});
    for (std::size_t first = 0; first < count; first += batch) {
      const std::size_t taken = std::min(batch, count - first);
      const std::uint8_t* start = images + first * image;
      std::vector<std::uint8_t> pixels(start, start + taken * image);
      while (pixels.size() < batch * image) {
        pixels.insert(pixels.end(), start + (taken - 1) * image, start + taken * image);
      }
      const auto outputs = network_->Run(described, pixels.data(), pixels.size());
      std::map<std::vector<std::int64_t>, std::size_t> earlier;  // layers of each shape
      for (std::size_t i = 0; i < layers.size(); ++i) {
        const auto shape = BatchShape(layout_.layers[i], batch);
        const auto& found = network_->Find(outputs, shape, HoldsFloats, earlier[shape]++);
        Append(layers[i], Floats(found), batch, taken);
      }
    }
    return layers;
  }

  std::size_t ListedRows() const override { return listed_rows_; }

  Candidates List(const Tensor& queries) override {
    if (!search_) return Backend::List(queries);
    const auto outputs = search_->Run(search_->Described(queries.shape), queries.values.data(),
                                      queries.values.size() * sizeof(float));
    const std::vector<std::int64_t> shape{queries.shape.front(),
                                          static_cast<std::int64_t>(listed_rows_)};
    return {Floats(search_->Find(outputs, shape, HoldsFloats)),
            Integers(search_->Find(outputs, shape, HoldsIntegers))};
  }

  std::string Name() const override { return network_->name(); }

 private:
  Layout layout_;
  std::unique_ptr<Graph> network_, search_;
  std::size_t listed_rows_ = 0;  // S; 0 where the host searches alone
};

}  // namespace

std::unique_ptr<Backend> MakeMindSporeBackend(const EngineFiles& files,
                                              const BackendOptions& options) {
  return std::make_unique<MindSporeBackend>(files, options);
}

}  // namespace patchcore
