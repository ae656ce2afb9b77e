#pragma once

#include <pybind11/pybind11.h>

namespace avil {

void bind_ledger(pybind11::module_& module);

}  // namespace avil
