#include "tests/engine/mindspore_double/mindspore_double.hpp"

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "include/api/model.h"
#include "include/api/serialization.h"
#include "tests/engine/mindspore_double/mindir_rows.hpp"

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

namespace {

// The graph of index.mindir: a product in float32, the best S, rounded where the device does.
std::vector<MSTensor> Shortlisted(const std::vector<float>& queries, std::size_t columns,
                                  const std::vector<float>& rows, std::size_t wanted) {
  std::vector<float> scores;
  std::vector<std::int32_t> best;
  const std::size_t count = rows.size() / columns, patches = queries.size() / columns;
  for (std::size_t patch = 0; patch < patches; ++patch) {
    std::vector<std::pair<float, std::int32_t>> all(count);  // -score, row
    for (std::size_t row = 0; row < count; ++row) {
      float sum = 0;
      for (std::size_t i = 0; i < columns; ++i) {
        sum += queries[patch * columns + i] * rows[row * columns + i];
      }
      all[row] = {-sum, static_cast<std::int32_t>(row)};
    }
    std::sort(all.begin(), all.end());
    using mindspore_double::Lie;
    const Lie lie = Current().lie;
    const bool close = wanted < count && all[wanted].first - all[0].first < all[0].first / 2048;
    if (lie == Lie::kHiddenWinner && close) {
      std::rotate(all.begin(), all.begin() + 1, all.begin() + static_cast<long>(wanted) + 1);
    }
    if (lie == Lie::kReversed) std::reverse(all.begin(), all.begin() + static_cast<long>(wanted));
    for (std::size_t i = 0; i < wanted; ++i) {
      const auto& [score, row] = all[lie == Lie::kSameRow ? 0 : i];
      const bool bad = i + 1 == wanted;
      scores.push_back(lie == Lie::kOtherScores ? -score / 2 : -score);
      if (bad && lie == Lie::kNotANumber) scores.back() = std::nanf("");
      best.push_back(row);
      if (bad && lie == Lie::kRowTooLarge) best.back() = static_cast<std::int32_t>(count);
      if (bad && lie == Lie::kNegativeRow) best.back() = -1;
    }
  }
  const std::vector<std::int64_t> shape{static_cast<std::int64_t>(patches),
                                        static_cast<std::int64_t>(wanted)};
  std::vector<MSTensor> outputs{
      {"scores", DataType::kNumberTypeFloat32, shape, scores.data(), scores.size() * 4},
      {"rows", DataType::kNumberTypeInt32, shape, best.data(), best.size() * 4}};
  if (Current().half_outputs) outputs[0] = InHalf(outputs[0]);
  if (Current().integer_scores) outputs[0] = outputs[1];
  return outputs;
}

}  // namespace

struct Model::Engine {
  std::vector<float> rows;  // (M, D + 4) of index.mindir; empty for features.mindir
  std::int64_t columns = 0;
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
  if (std::filesystem::path(path).filename().string().rfind("index", 0) == 0) {
    engine_ = std::make_unique<Engine>();
    mindspore_double::ReadRows(path, engine_->rows, engine_->columns);
    engine_->input_shape = {Current().flavour == Flavour::kOlderSdk ? 64 : -1, engine_->columns};
    return Status();
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
  if (!engine_->rows.empty()) {
    return {
        MSTensor("queries",
                 Current().float_input ? DataType::kNumberTypeUInt8 : DataType::kNumberTypeFloat32,
                 engine_->input_shape, nullptr, 0)};
  }
  return {MSTensor("images", type, engine_->input_shape, nullptr, 0)};
}

Status Model::Resize(const std::vector<MSTensor>&,
                     const std::vector<std::vector<std::int64_t>>& shapes) {
  if (Current().flavour == Flavour::kOlderSdk) return Status("Resize is not supported.");
  if (Current().fixed_batch > 0 && engine_->rows.empty()) {
    return Status("The model has no dynamic dims.");
  }
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
  if (!engine_->rows.empty()) {
    std::vector<float> queries(inputs[0].DataSize() / sizeof(float));
    std::memcpy(queries.data(), inputs[0].Data().get(), inputs[0].DataSize());
    const auto columns = static_cast<std::size_t>(engine_->columns);
    const std::size_t count = engine_->rows.size() / columns;
    *outputs = Shortlisted(queries, columns, engine_->rows,
                           std::min<std::size_t>(8, count) - Current().wrong_output_shape);
    if (Current().swapped_outputs) std::swap(outputs->front(), outputs->back());
    return Status();
  }
  ++Current().runs;
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::vector<std::uint8_t> pixels(inputs[0].DataSize());
  std::memcpy(pixels.data(), inputs[0].Data().get(), pixels.size());
  const Ort::Value input =
      Ort::Value::CreateTensor(memory, pixels.data(), pixels.size(), shape.data(), shape.size());
  const std::array<const char*, 1> in{"images"};
  Ort::AllocatorWithDefaultOptions allocator;
  std::vector<Ort::AllocatedStringPtr> names;
  std::vector<const char*> out;
  for (std::size_t i = 0; i < engine_->session.GetOutputCount(); ++i) {
    names.push_back(engine_->session.GetOutputNameAllocated(i, allocator));
    out.push_back(names.back().get());
  }
  const auto values =
      engine_->session.Run(Ort::RunOptions{nullptr}, in.data(), &input, 1, out.data(), out.size());
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
