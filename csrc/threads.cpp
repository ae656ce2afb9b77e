#include "threads.h"

#include <atomic>

#include "openmp.h"
#include "pool.h"

namespace avil {

void run_pieces(std::int64_t count, int threads, Piece piece, const void* context) {
    std::atomic<std::int64_t> next{0};
    auto work = [&] {
        for (;;) {
            const std::int64_t index = next.fetch_add(1, std::memory_order_relaxed);
            if (index >= count) return;
            piece(context, index);
        }
    };
    if (threads > count) threads = static_cast<int>(count);
    if (threads <= 1) return work();
    const Team team = openmp_team() != nullptr ? openmp_team() : pool_team;
    team(threads, [](void* context) { (*static_cast<decltype(work)*>(context))(); }, &work);
}

}  // namespace avil
