// What the kernels need, included before any function may use more than the baseline instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "isa.h"
#include "kernels.h"
#include "segments.h"
#include "threads.h"
