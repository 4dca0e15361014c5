// Test double of MindSpore's C++ API: which device a model is built for.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace mindspore {

class DeviceInfoContext {
 public:
  virtual ~DeviceInfoContext() = default;
};

class CPUDeviceInfo : public DeviceInfoContext {};

class AscendDeviceInfo : public DeviceInfoContext {
 public:
  void SetDeviceID(std::uint32_t device_id) { device_id_ = device_id; }
  std::uint32_t GetDeviceID() const { return device_id_; }

 private:
  std::uint32_t device_id_ = 0;
};

class Context {
 public:
  void SetThreadNum(std::int32_t) {}
  std::vector<std::shared_ptr<DeviceInfoContext>>& MutableDeviceInfo() { return devices_; }

 private:
  std::vector<std::shared_ptr<DeviceInfoContext>> devices_;
};

}  // namespace mindspore
