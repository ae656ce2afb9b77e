// avil_fast._C: the four operations on raw pointers, and the ledger.

#include <pybind11/pybind11.h>

#include "bindings.h"
#include "codec.h"

PYBIND11_MODULE(_C, module) {
    module.doc() = "The C++ extension of avil_fast: kernels for the CPU, and the delta ledger.";
    module.attr("BLOCK") = avil::kBlock;
    module.attr("MAX_TASKS") = avil::kMaxTasks;
    avil::bind_operations(module);
    avil::bind_ledger(module);
}
