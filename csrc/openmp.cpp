#include "openmp.h"

#if !defined(_WIN32)
#include <dlfcn.h>
#include <pthread.h>
#endif

namespace avil {
namespace {

// Between torch's operations its threads spin for some milliseconds, waiting for more. Threads of our own
// would share the cores with them: on two cores an operation then took up to 1.5 times as long.

bool lost = false;

#if !defined(_WIN32)
/// libgomp's entry to a parallel region, which LLVM's and Intel's runtimes offer too.
using GompParallel = void (*)(void (*work)(void*), void* context, unsigned threads, unsigned flags);

/// torch loads the libraries it depends on for all to see.
GompParallel gomp_parallel() {
    static const auto found = reinterpret_cast<GompParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    return found;
}

void team(int threads, void (*work)(void*), void* context) {
    gomp_parallel()(work, context, static_cast<unsigned>(threads), 0);
}

[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] { lost = true; });
#endif

}  // namespace

void lose_openmp() { lost = true; }

Team openmp_team() {
#if defined(_WIN32)
    return nullptr;
#else
    return !lost && gomp_parallel() != nullptr ? team : nullptr;
#endif
}

}  // namespace avil
