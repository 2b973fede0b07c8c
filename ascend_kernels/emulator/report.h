// What a launch did, counted: for tests, and for the roofline of a kernel.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace AscendC::emulator {

struct Options {
  bool auto_sync = true;  // as the compiler's switch: V after V, and S with all others, are in order by themselves
  bool strict = true;     // what hardware does silently and nobody means is an error, not a warning
};

struct Report {
  static constexpr size_t MOST_WARNINGS = 16, MOST_REPORTS = 4096;

  std::string kernel;
  int64_t blocks = 0, peak_ub_bytes = 0, mte2_bytes = 0, mte3_bytes = 0, copies = 0, vector_instructions = 0,
          vector_repeats = 0, scalar_reads = 0, scalar_writes = 0, pipe_barriers = 0, flags = 0, sync_alls = 0;
  std::vector<std::string> warnings;

  void warn(const std::string& text) {
    for (auto& warning : warnings)
      if (warning == text) return;
    if (warnings.size() < MOST_WARNINGS) warnings.push_back(text);
  }

  std::string json() const {
    std::string text = "{\"kernel\": " + quoted(kernel);
    auto add = [&](const char* name, int64_t value) {
      text += std::string(", \"") + name + "\": " + std::to_string(value);
    };
    add("blocks", blocks);
    add("peak_ub_bytes", peak_ub_bytes);
    add("mte2_bytes", mte2_bytes);
    add("mte3_bytes", mte3_bytes);
    add("copies", copies);
    add("vector_instructions", vector_instructions);
    add("vector_repeats", vector_repeats);
    add("scalar_reads", scalar_reads);
    add("scalar_writes", scalar_writes);
    add("pipe_barriers", pipe_barriers);
    add("flags", flags);
    add("sync_alls", sync_alls);
    text += ", \"warnings\": [";
    for (auto& warning : warnings) text += (&warning == warnings.data() ? "" : ", ") + quoted(warning);
    return text + "]}";
  }

 private:
  static std::string quoted(const std::string& plain) {
    std::string text = "\"";
    for (char c : plain) {
      if (c == '"' || c == '\\') text += '\\';
      text += c == '\n' ? ' ' : c;
    }
    return text + "\"";
  }
};

}  // namespace AscendC::emulator
