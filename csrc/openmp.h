// The OpenMP threads of the process, found at run time: those that torch computes on.
#pragma once

#include "team.h"

namespace avil {

/// Null where there is no OpenMP runtime, or after a fork, which its threads do not survive.
Team openmp_team();

/// For a child that was forked before this library was loaded.
void lose_openmp();

}  // namespace avil
