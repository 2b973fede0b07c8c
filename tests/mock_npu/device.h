// A device "npu" whose memory is the host's, and whose tasks wait until somebody wants to see what they do.
#pragma once

#include <cstddef>
#include <functional>
#include <map>

namespace mock {

using Blocks = std::map<void*, size_t>;

// The device's memory: where each block begins, and its bytes. What was freed stays until the tasks have run.
const Blocks& blocks();
void free_released();

void enqueue(std::function<void()> task);

// Runs the tasks, in another thread.
void synchronize();

}  // namespace mock
