// A name under which vector kernels include the API too; there is no Matmul here.
#pragma once

#include "../kernel_operator.h"
