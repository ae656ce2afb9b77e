// Which instruction sets this compiler can target function by function.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__)
#define AVIL_X86 1
#endif

// A region whose functions may use more than the baseline, in a translation unit built for the
// baseline. Unlike -m flags for the whole unit, it leaves the standard library's inline functions
// alone, so the linker can never pick an AVX-512 copy of one for a processor without AVX-512.
#if defined(__clang__)
#define AVIL_PRAGMA(text) _Pragma(#text)
#define AVIL_TARGET_BEGIN(features) \
    AVIL_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define AVIL_TARGET_END _Pragma("clang attribute pop")
#else
#define AVIL_PRAGMA(text) _Pragma(#text)
#define AVIL_TARGET_BEGIN(features) _Pragma("GCC push_options") AVIL_PRAGMA(GCC target(features))
#define AVIL_TARGET_END _Pragma("GCC pop_options")
#endif
