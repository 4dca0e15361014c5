// Test double of MindSpore's C++ API: loading a graph, which only the older SDK does from a path.
#pragma once

#include <string>

#include "include/api/model.h"

namespace mindspore {

class Serialization {
 public:
  static Status Load(const std::string& path, ModelType type, Graph* graph);
};

}  // namespace mindspore
