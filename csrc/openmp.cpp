#include "openmp.h"

#if !defined(_WIN32)
#include <dlfcn.h>
#include <pthread.h>
#endif

namespace avil {
namespace {

// Between torch's operations its threads spin for some milliseconds, waiting for more. Threads of our own
// would share the cores with them: on two cores an operation then took up to 1.5 times as long.

#if !defined(_WIN32)
/// libgomp's entry to a parallel region, which LLVM's and Intel's runtimes offer too.
using GompParallel = void (*)(void (*work)(void*), void* context, unsigned threads, unsigned flags);
GompParallel gomp_parallel = nullptr;

void team(int threads, void (*work)(void*), void* context) {
    gomp_parallel(work, context, static_cast<unsigned>(threads), 0);
}

bool find() {
    // torch loads the libraries it depends on for all to see.
    gomp_parallel = reinterpret_cast<GompParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    pthread_atfork(nullptr, nullptr, [] { gomp_parallel = nullptr; });
    return true;
}
#endif

}  // namespace

Team openmp_team() {
#if defined(_WIN32)
    return nullptr;
#else
    static const bool looked = find();
    return looked && gomp_parallel != nullptr ? team : nullptr;
#endif
}

}  // namespace avil
