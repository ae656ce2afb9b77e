// Threads of our own, for where there is no OpenMP.
#pragma once

#include "team.h"

namespace avil {

/// A team of threads that sleep between calls.
void pool_team(int threads, void (*work)(void*), void* context);

}  // namespace avil
