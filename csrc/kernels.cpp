#include "isa.h"
// After isa.h, which says what there is to choose from.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace avil {
namespace {

bool supported(const Kernels& kernels) {
#ifdef AVIL_X86
    if (&kernels == &kAvx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (&kernels == &kAvx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("f16c");
#endif
    return &kernels == &kPortable;
}

const Kernels* const kAll[] = {  // best first
#ifdef AVIL_X86
    &kAvx512, &kAvx2,
#endif
    &kPortable};

const Kernels& best() {
    for (const Kernels* kernels : kAll)
        if (supported(*kernels)) return *kernels;
    return kPortable;
}

}  // namespace

const Kernels& kernels() {
    static const Kernels& chosen = best();
    const char* forced = std::getenv("AVIL_ISA");
    if (forced == nullptr || *forced == '\0') return chosen;
    for (const Kernels* kernels : kAll) {
        if (std::string(forced) != kernels->isa) continue;
        if (!supported(*kernels))
            throw std::invalid_argument(std::string("AVIL_ISA is '") + forced +
                                        "', but this processor has " + chosen.isa + " at most");
        return *kernels;
    }
    throw std::invalid_argument(std::string("AVIL_ISA is '") + forced +
                                "', but must be portable, avx2 or avx512, and built for this processor");
}

}  // namespace avil
