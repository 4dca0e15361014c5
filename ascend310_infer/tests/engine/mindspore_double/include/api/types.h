// Test double of MindSpore's C++ API: tensors and results, only what engine/mindspore_backend.cpp
// uses. Own declarations with MindSpore's public names; see mindspore_double.hpp for what they do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace mindspore {

enum class DataType : int {
  kNumberTypeInt32 = 34,
  kNumberTypeUInt8 = 37,
  kNumberTypeFloat16 = 42,
  kNumberTypeFloat32 = 43,
};

enum ModelType : std::uint32_t { kMindIR = 0 };

class Status {
 public:
  Status() = default;
  explicit Status(std::string reason) : failed_(true), reason_(std::move(reason)) {}
  bool IsOk() const { return !failed_; }
  std::string ToString() const { return reason_; }

 private:
  bool failed_ = false;
  std::string reason_;
};

// Copies of a tensor share its bytes, as in the real API.
class MSTensor {
 public:
  MSTensor(const std::string& name, enum DataType type, const std::vector<std::int64_t>& shape,
           const void* data, std::size_t size);
  std::string Name() const { return name_; }
  enum DataType DataType() const { return type_; }
  const std::vector<std::int64_t>& Shape() const { return shape_; }
  std::size_t DataSize() const { return size_; }
  std::shared_ptr<const void> Data() const { return data_; }

 private:
  std::string name_;
  enum DataType type_;
  std::vector<std::int64_t> shape_;
  std::size_t size_;
  std::shared_ptr<const void> data_;
};

}  // namespace mindspore
