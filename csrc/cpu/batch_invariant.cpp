// The one function that Python calls by its name: pangu_ops/backends.py, after it has loaded a library.
#include "cpu/batch_invariant.h"

extern "C" __attribute__((visibility("default"))) void pangu_set_batch_invariant(int on) {
  pangu::batch_invariant = on;
}
