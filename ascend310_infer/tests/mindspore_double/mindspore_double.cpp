#include "mindspore_double.hpp"

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "include/api/model.h"
#include "include/api/serialization.h"

namespace mindspore_double {

Behaviour& Current() {
  static Behaviour behaviour;
  return behaviour;
}

}  // namespace mindspore_double

namespace mindspore {
namespace {

using mindspore_double::Current;
using mindspore_double::Flavour;

// Nearest half of a float; only for the magnitudes that features have (no overflow, no NaN).
std::uint16_t ToHalf(float value) {
  int exponent = 0;
  const float fraction = std::frexp(std::fabs(value), &exponent);  // in [0.5, 1)
  const int sign = std::signbit(value) ? 0x8000 : 0;
  if (value == 0.0F || exponent < -13) {
    const auto tiny = static_cast<int>(std::nearbyint(std::ldexp(std::fabs(value), 24)));
    return static_cast<std::uint16_t>(sign | tiny);
  }
  const auto bits = static_cast<int>(std::nearbyint(std::ldexp(fraction, 11)));  // 1024 to 2048
  return static_cast<std::uint16_t>(sign | (((exponent + 14) << 10) + bits - 1024));
}

MSTensor InHalf(const MSTensor& tensor) {
  std::vector<std::uint16_t> halves(tensor.DataSize() / sizeof(float));
  const auto* floats = static_cast<const float*>(tensor.Data().get());
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = ToHalf(floats[i]);
  return {tensor.Name(), DataType::kNumberTypeFloat16, tensor.Shape(), halves.data(),
          halves.size() * sizeof(std::uint16_t)};
}

}  // namespace

MSTensor::MSTensor(const std::string& name, enum DataType type,
                   const std::vector<std::int64_t>& shape, const void* data, std::size_t size)
    : name_(name), type_(type), shape_(shape), size_(size) {
  const auto bytes = std::make_shared<std::vector<char>>(size);
  if (data != nullptr) std::memcpy(bytes->data(), data, size);
  data_ = std::shared_ptr<const void>(bytes, bytes->data());
}

struct Model::Engine {
  Ort::Env env{ORT_LOGGING_LEVEL_FATAL, "double"};
  Ort::Session session{nullptr};
  std::vector<std::int64_t> input_shape;
};

Model::Model() = default;
Model::~Model() = default;

Status Model::Build(const std::string& path, ModelType, const std::shared_ptr<Context>& context) {
  if (Current().flavour == Flavour::kOlderSdk) return Status("Unsupported feature.");
  return Start(path, context);
}

Status Model::Build(GraphCell graph, const std::shared_ptr<Context>& context) {
  if (graph.path.empty()) return Status("Invalid graph.");
  return Start(graph.path, context);
}

Status Model::Start(const std::string& path, const std::shared_ptr<Context>& context) {
  const auto* ascend =
      dynamic_cast<const AscendDeviceInfo*>(context->MutableDeviceInfo().at(0).get());
  if (ascend == nullptr && Current().flavour == Flavour::kOlderSdk) {
    return Status("Unsupported device target CPU.");
  }
  if (ascend != nullptr &&
      ascend->GetDeviceID() >= static_cast<std::uint32_t>(Current().ascend_devices)) {
    throw std::runtime_error("aclrtSetDevice failed,\n device not found");
  }
  const auto onnx = std::filesystem::path(path).replace_extension(".onnx");
  if (!std::filesystem::exists(onnx)) return Status("Read model file failed.");
  engine_ = std::make_unique<Engine>();
  engine_->session = Ort::Session(engine_->env, onnx.c_str(), Ort::SessionOptions());
  const Ort::TypeInfo input = engine_->session.GetInputTypeInfo(0);
  engine_->input_shape = input.GetTensorTypeAndShapeInfo().GetShape();  // (-1, H, W, 3)
  if (Current().flavour == Flavour::kOlderSdk) engine_->input_shape[0] = 1;
  if (Current().fixed_batch > 0) engine_->input_shape[0] = Current().fixed_batch;
  if (Current().wrong_input_shape) {
    std::rotate(engine_->input_shape.begin() + 1, engine_->input_shape.end() - 1,
                engine_->input_shape.end());
  }
  return Status();
}

std::vector<MSTensor> Model::GetInputs() {
  const DataType type =
      Current().float_input ? DataType::kNumberTypeFloat32 : DataType::kNumberTypeUInt8;
  return {MSTensor("images", type, engine_->input_shape, nullptr, 0)};
}

Status Model::Resize(const std::vector<MSTensor>&,
                     const std::vector<std::vector<std::int64_t>>& shapes) {
  if (Current().flavour == Flavour::kOlderSdk) return Status("Resize is not supported.");
  if (Current().fixed_batch > 0) return Status("The model has no dynamic dims.");
  engine_->input_shape = shapes.at(0);
  return Status();
}

Status Model::Predict(const std::vector<MSTensor>& inputs, std::vector<MSTensor>* outputs) {
  if (Current().throws_on_predict) throw std::runtime_error("aclmdlExecute failed");
  if (Current().fails_on_predict) return Status("Execute model failed.");
  outputs->clear();
  if (Current().no_outputs) return Status();
  const std::vector<std::int64_t>& shape = inputs.at(0).Shape();
  if (shape != engine_->input_shape) return Status("Input shape is not the model's.");
  ++Current().runs;
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::vector<std::uint8_t> pixels(inputs[0].DataSize());
  std::memcpy(pixels.data(), inputs[0].Data().get(), pixels.size());
  const Ort::Value input = Ort::Value::CreateTensor(memory, pixels.data(), pixels.size(),
                                                    shape.data(), shape.size());
  const std::array<const char*, 1> in{"images"};
  const std::array<const char*, 2> out{"layer2", "layer3"};
  const auto values = engine_->session.Run(Ort::RunOptions{nullptr}, in.data(), &input, 1,
                                           out.data(), out.size());
  for (const Ort::Value& value : values) {
    const auto described = value.GetTensorTypeAndShapeInfo();
    auto sides = described.GetShape();
    if (Current().wrong_output_shape) std::swap(sides[1], sides[2]);
    outputs->emplace_back("output", DataType::kNumberTypeFloat32, sides,
                          value.GetTensorData<float>(),
                          described.GetElementCount() * sizeof(float));
    if (Current().half_outputs) outputs->back() = InHalf(outputs->back());
  }
  if (Current().swapped_outputs) std::swap(outputs->front(), outputs->back());
  return Status();
}

Status Serialization::Load(const std::string& path, ModelType, Graph* graph) {
  if (Current().flavour == Flavour::kLite) return Status("Not supported in Lite.");
  if (!std::filesystem::exists(path)) return Status("Read model file failed.");
  graph->path = path;
  return Status();
}

}  // namespace mindspore
