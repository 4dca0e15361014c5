// Test double of MindSpore's C++ API: a model computes what features.onnx beside the file gives.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "include/api/context.h"
#include "include/api/types.h"

namespace mindspore {

class Graph {
 public:
  std::string path;  // of the .mindir file; empty before Serialization::Load
};

class GraphCell {
 public:
  explicit GraphCell(const Graph& graph) : path(graph.path) {}
  std::string path;
};

class Model {
 public:
  Model();
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  Status Build(const std::string& path, ModelType type, const std::shared_ptr<Context>& context);
  Status Build(GraphCell graph, const std::shared_ptr<Context>& context);
  std::vector<MSTensor> GetInputs();
  Status Resize(const std::vector<MSTensor>& inputs,
                const std::vector<std::vector<std::int64_t>>& shapes);
  Status Predict(const std::vector<MSTensor>& inputs, std::vector<MSTensor>* outputs);

 private:
  struct Engine;
  Status Start(const std::string& path, const std::shared_ptr<Context>& context);
  std::unique_ptr<Engine> engine_;
};

}  // namespace mindspore
