// The emulated machine: clocks of the pipes, memories with their shadows, cores, instructions, reports.
#pragma once

#include "clocks.h"
#include "core.h"
#include "cores.h"
#include "global_memory.h"
#include "instruction.h"
#include "local_memory.h"
#include "report.h"
