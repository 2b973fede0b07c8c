// What libpangu_ascend.so calls in torch_npu, written down: npu_calls() tells it. Tasks wait in a queue.
#include <torch_npu/csrc/core/npu/NPUStream.h>
#include <torch_npu/csrc/framework/OpCommand.h>

#include <exception>
#include <thread>
#include <vector>

#include "device.h"

void* mock_stream(const mock::Blocks& blocks);  // acl.cpp

static std::string calls;
static std::vector<std::function<void()>> tasks;

extern "C" __attribute__((visibility("default"))) const char* npu_calls() {
  static std::string told;
  told.swap(calls);
  calls.clear();
  return told.c_str();
}

void mock::enqueue(std::function<void()> task) { tasks.push_back(std::move(task)); }

void mock::synchronize() {
  std::exception_ptr error;
  std::vector<std::function<void()>> now;
  now.swap(tasks);
  if (!now.empty()) {
    mock_stream(blocks());  // which kernels may touch by now
    std::thread([&] {
      try {
        for (auto& task : now) task();
      } catch (...) {
        error = std::current_exception();
      }
    }).join();
  }
  free_released();
  if (error) std::rethrow_exception(error);
}

static c10::Device current() { return c10::impl::getDeviceGuardImpl(c10::kPrivateUse1)->getDevice(); }

c10_npu::NPUStream c10_npu::getCurrentNPUStream(c10::DeviceIndex index) {
  c10::Device device = index < 0 ? current() : c10::Device(c10::kPrivateUse1, index);
  return NPUStream(NPUStream::UNCHECKED, c10::impl::getDeviceGuardImpl(c10::kPrivateUse1)->getStream(device));
}

aclrtStream c10_npu::NPUStream::stream(const bool need_empty) const {
  calls += "stream of npu:" + std::to_string(device_index()) + (need_empty ? ", queue emptied\n" : "\n");
  return mock_stream(mock::blocks());
}

void at_npu::native::OpCommand::RunOpApi(const string& name, PROC_FUNC task, bool sync) {
  calls += "task " + name + " on npu:" + std::to_string(current().index()) + (sync ? ", waited for\n" : "\n");
  mock::enqueue([=] { TORCH_CHECK(task() == 0, name, ": the task must succeed"); });
}
