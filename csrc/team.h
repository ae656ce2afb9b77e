// What a set of threads is asked to do.
#pragma once

namespace avil {

/// Runs work(context) once on each of at most `threads` threads, the caller's among them, and returns
/// when all have ended. `work` must not throw.
using Team = void (*)(int threads, void (*work)(void*), void* context);

}  // namespace avil
