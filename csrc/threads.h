// A loop over independent pieces of work, shared out among threads.
#pragma once

#include <cstdint>

namespace avil {

using Piece = void (*)(const void* context, std::int64_t index);

/// Calls piece(context, i) once for every i in [0, count), on at most `threads` threads in no
/// particular order, and returns when all calls have. Pieces must not throw.
void run_pieces(std::int64_t count, int threads, Piece piece, const void* context);

template <class Body>
void parallel_for(std::int64_t count, int threads, const Body& body) {
    run_pieces(
        count, threads,
        [](const void* context, std::int64_t index) { (*static_cast<const Body*>(context))(index); }, &body);
}

}  // namespace avil
