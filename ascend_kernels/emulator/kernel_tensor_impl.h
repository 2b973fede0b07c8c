// A name under which kernels include it.
#pragma once

#include "kernel_operator.h"
