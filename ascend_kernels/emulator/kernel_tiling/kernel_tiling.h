// A name under which kernels include it.
#pragma once

#include "../tiling_data.h"
