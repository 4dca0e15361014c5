// features.mindir on MindSpore: Ascend 310/310P, or the CPU where MindSpore Lite offers it.
//
// One source for two libraries. MindSpore Lite builds a model from its path; MindSpore's own older
// C++ SDK refuses that and wants Serialization::Load and Build(GraphCell). The search stays with
// PortableIndex: it ranks in float32 on the host, so fp16 on the device never decides it.
#include <algorithm>
#include <cstring>
#include <exception>
#include <functional>

#include "backend.hpp"
#include "errors.hpp"
#include "half.hpp"
#include "include/api/context.h"
#include "include/api/model.h"
#include "include/api/serialization.h"

namespace patchcore {
namespace {

namespace ms = mindspore;

constexpr std::int64_t kMaxBatch = 65535;  // as --batch

// Runs one call of MindSpore; "" or why it failed. Its libraries throw, too, for instance for an
// absent device, and not one type only.
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
  const std::string by_path = Failure(
      [&] { return model->Build(path, ms::kMindIR, MakeContext(options)); });
  if (by_path.empty()) return model;
  ms::Graph graph;
  model = std::make_unique<ms::Model>();  // what a failed Build leaves behind is not documented
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

// Copies one output to the host, in float32.
Tensor Copied(const ms::MSTensor& output, const std::vector<std::int64_t>& shape) {
  std::size_t count = 1;
  for (const std::int64_t side : shape) count *= static_cast<std::size_t>(side);
  const std::shared_ptr<const void> bytes = output.Data();
  const std::size_t size = count * (IsHalf(output) ? sizeof(std::uint16_t) : sizeof(float));
  if (bytes == nullptr || output.DataSize() != size) {
    throw BackendError("mindspore: output " + ShapeText(shape) + ": expected " +
                       std::to_string(size) + " bytes, got " + std::to_string(output.DataSize()));
  }
  Tensor tensor{shape, std::vector<float>(count)};
  if (!IsHalf(output)) {
    std::memcpy(tensor.values.data(), bytes.get(), size);
    return tensor;
  }
  const auto* halves = static_cast<const std::uint16_t*>(bytes.get());
  for (std::size_t i = 0; i < count; ++i) tensor.values[i] = FromHalf(halves[i]);
  return tensor;
}

class MindSporeBackend : public Backend {
 public:
  MindSporeBackend(const Artifact& artifact, const BackendOptions& options)
      : input_(artifact.manifest().preprocess),
        features_(artifact.manifest().features),
        name_("MindSpore on " + DeviceName(options)) {
    if (features_.precision == FeaturePrecision::kInt8) {
      throw ArtifactError(artifact.Path(kManifestFile).string() +
                          ": features.precision: expected float32 for MindSpore, got int8, whose "
                          "bank fits features.onnx alone; fit again without --quantize");
    }
    if (options.mindir.empty()) artifact.Verify({kFeaturesMindir});
    model_ = BuildModel(
        options.mindir.empty() ? artifact.Path(kFeaturesMindir).string() : options.mindir, options);
  }

  // A converted model may have a fixed batch: the pictures are cut into such batches then, and the
  // last one is filled up with copies of its last picture.
  std::pair<Tensor, Tensor> Features(const std::uint8_t* images, std::size_t count) override {
    const ms::MSTensor described = Described(count);
    const auto batch = static_cast<std::size_t>(described.Shape().front());
    const std::size_t picture = input_.height * input_.width * 3;
    Tensor layer2{BatchShape(features_.layer2, count), {}};
    Tensor layer3{BatchShape(features_.layer3, count), {}};
    for (std::size_t first = 0; first < count; first += batch) {
      const std::size_t taken = std::min(batch, count - first);
      const std::uint8_t* start = images + first * picture;
      std::vector<std::uint8_t> pixels(start, start + taken * picture);
      while (pixels.size() < batch * picture) {
        pixels.insert(pixels.end(), start + (taken - 1) * picture, start + taken * picture);
      }
      const std::vector<ms::MSTensor> outputs = Run(described, pixels);
      Append(layer2, Find(outputs, BatchShape(features_.layer2, batch)), taken);
      Append(layer3, Find(outputs, BatchShape(features_.layer3, batch)), taken);
    }
    return {std::move(layer2), std::move(layer3)};
  }

  std::string Name() const override { return name_; }

 private:
  std::vector<std::int64_t> InputShape(std::size_t count) const {
    return {static_cast<std::int64_t>(count), static_cast<std::int64_t>(input_.height),
            static_cast<std::int64_t>(input_.width), 3};
  }

  // The model's one input, brought to `count` pictures where its batch is dynamic.
  ms::MSTensor Described(std::size_t count) {
    const std::vector<std::int64_t> shape = InputShape(count);
    std::vector<ms::MSTensor> inputs = model_->GetInputs();
    if (!fixed_ && inputs.size() == 1 && inputs[0].Shape() != shape) {
      const std::string failure = Failure([&] { return model_->Resize(inputs, {shape}); });
      fixed_ = !failure.empty();
      inputs = model_->GetInputs();
    }
    const bool bytes =
        inputs.size() == 1 && inputs[0].DataType() == ms::DataType::kNumberTypeUInt8;
    if (!bytes || !IsBatch(inputs[0].Shape())) {
      const std::string got = inputs.empty() ? "no input" : ShapeText(inputs[0].Shape());
      throw BackendError(name_ + ": expected one uint8 input " + ShapeText(shape) +
                         " or a fixed batch of such pictures, got " + got +
                         (inputs.empty() || bytes ? "" : " of another type") +
                         "; convert the artifact's features.mindir again");
    }
    return inputs[0];
  }

  // Whether it is (N, H, W, 3) with some fixed N.
  bool IsBatch(const std::vector<std::int64_t>& shape) const {
    return !shape.empty() && shape[0] >= 1 && shape[0] <= kMaxBatch &&
           shape == InputShape(static_cast<std::size_t>(shape[0]));
  }

  std::vector<ms::MSTensor> Run(const ms::MSTensor& described,
                                const std::vector<std::uint8_t>& pixels) {
    // The constructor copies the bytes, in Lite and in the older SDK.
    const ms::MSTensor input(described.Name(), described.DataType(), described.Shape(),
                             pixels.data(), pixels.size());
    std::vector<ms::MSTensor> outputs;
    const std::string failure = Failure([&] { return model_->Predict({input}, &outputs); });
    if (!failure.empty()) throw BackendError(name_ + ": cannot run the graph (" + failure + ")");
    return outputs;
  }

  // Adds the layers of a batch's first `taken` pictures.
  static void Append(Tensor& layer, const Tensor& batch, std::size_t taken) {
    const std::size_t size = batch.values.size() / static_cast<std::size_t>(batch.shape.front());
    layer.values.insert(layer.values.end(), batch.values.begin(),
                        batch.values.begin() + static_cast<std::ptrdiff_t>(taken * size));
  }

  // Engines may rename and reorder outputs; the shapes of layer2 and layer3 always differ.
  Tensor Find(const std::vector<ms::MSTensor>& outputs,
              const std::vector<std::int64_t>& shape) const {
    std::string got;
    for (const ms::MSTensor& output : outputs) {
      const bool number =
          IsHalf(output) || output.DataType() == ms::DataType::kNumberTypeFloat32;
      if (number && output.Shape() == shape) return Copied(output, shape);
      got += (got.empty() ? "" : ", ") + ShapeText(output.Shape());
    }
    throw BackendError(name_ + ": expected an output " + ShapeText(shape) +
                       " as manifest.json says, got " + (got.empty() ? "none" : got) +
                       "; the model belongs to another artifact");
  }

  Preprocessing input_;
  patchcore::Features features_;
  std::string name_;
  std::unique_ptr<ms::Model> model_;
  bool fixed_ = false;  // its batch cannot be resized
};

}  // namespace

std::unique_ptr<Backend> MakeMindSporeBackend(const Artifact& artifact,
                                              const BackendOptions& options) {
  return std::make_unique<MindSporeBackend>(artifact, options);
}

}  // namespace patchcore
