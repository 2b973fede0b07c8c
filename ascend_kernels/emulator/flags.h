// Flags between the pipes of a core, and the ids that name them.
#pragma once

#include "machine.h"

namespace AscendC::emulator {

inline Core::Flag& flag_of(Core& core, const char* who, HardEvent event, int id) {
  if (id < 0 || id >= EVENT_IDS)
    core.fail(std::string(who) + "<" + name_of(event) + ">", "event-id", "an event id must be 0 to 7",
              std::to_string(id));
  return core.flags[int(event)][id];
}

// The source's pipe raises the flag when all that it has begun is complete.
inline void set_flag(HardEvent event, int id) {
  Core& core = emulator::core();
  Core::Flag& flag = flag_of(core, "SetFlag", event, id);
  if (flag.is_set)
    core.fail("SetFlag<" + name_of(event) + ">", "flag-set-twice", "a flag must be waited for before it is set again",
              "id " + std::to_string(id) + ", which is set");
  flag.is_set = true;
  flag.clock = core.snapshot(source_of(event));
  Machine::get().report.flags++;
}

inline void wait_flag(HardEvent event, int id) {
  Core& core = emulator::core();
  Core::Flag& flag = flag_of(core, "WaitFlag", event, id);
  if (!flag.is_set)
    core.fail("WaitFlag<" + name_of(event) + ">", "flag-never-set", "a flag must be set before it is waited for",
              "id " + std::to_string(id) + ", which nobody set");
  flag.is_set = false;
  Clock& clock = core.clocks[int(destination_of(event))];
  clock.join(core.clocks[int(Pipe::S)]);
  clock.join(flag.clock);
}

inline int free_id(Core& core, const char* who, HardEvent event) {
  for (int id = 0; id < EVENT_IDS; id++)
    if (!(core.taken[int(event)] >> id & 1)) return id;
  core.fail(who, "event-ids-exhausted", "at most 8 events of a kind must be in use", "a ninth of " + name_of(event));
}

inline int take_id(Core& core, const char* who, HardEvent event) {
  int id = free_id(core, who, event);
  core.taken[int(event)] |= uint8_t(1u << id);
  return id;
}

inline void return_id(Core& core, const char* who, HardEvent event, int id) {
  if (id < 0 || id >= EVENT_IDS || !(core.taken[int(event)] >> id & 1))
    core.fail(who, "event-id", "an event id must have been taken before it is given back",
              std::to_string(id) + " of " + name_of(event));
  core.taken[int(event)] &= uint8_t(~(1u << id));
}

}  // namespace AscendC::emulator
