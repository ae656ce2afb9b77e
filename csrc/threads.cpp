#include "threads.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace avil {
namespace {

/// Threads that sleep between calls. Starting them anew would cost 20 µs per thread and call.
class Pool {
public:
    void run(std::int64_t count, int threads, Piece piece, const void* context) {
        const std::lock_guard<std::mutex> one_call_at_a_time(call_);
        const std::size_t helpers = grow(static_cast<std::size_t>(threads) - 1);
        {
            const std::lock_guard<std::mutex> lock(state_);
            piece_ = piece;
            context_ = context;
            count_ = count;
            next_.store(0, std::memory_order_relaxed);
            helpers_ = running_ = helpers;
            ++generation_;
        }
        wake_.notify_all();
        work();
        std::unique_lock<std::mutex> lock(state_);
        done_.wait(lock, [this] { return running_ == 0; });
    }

private:
    /// As many helpers as there can be, up to `wanted`: a system out of threads slows, but does not fail.
    std::size_t grow(std::size_t wanted) {
        try {
            while (workers_.size() < wanted) {
                const std::size_t index = workers_.size();
                workers_.emplace_back([this, index, seen = generation_] { serve(index, seen); });
            }
        } catch (const std::system_error&) {
        }
        return workers_.size() < wanted ? workers_.size() : wanted;
    }

    void serve(std::size_t index, std::uint64_t seen) {
        std::unique_lock<std::mutex> lock(state_);
        for (;;) {
            wake_.wait(lock, [&] { return generation_ != seen; });
            seen = generation_;
            if (index >= helpers_) continue;
            lock.unlock();
            work();
            lock.lock();
            if (--running_ == 0) done_.notify_one();
        }
    }

    void work() {
        for (;;) {
            const std::int64_t index = next_.fetch_add(1, std::memory_order_relaxed);
            if (index >= count_) return;
            piece_(context_, index);
        }
    }

    std::mutex call_, state_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> workers_;
    std::atomic<std::int64_t> next_{0};
    Piece piece_ = nullptr;
    const void* context_ = nullptr;
    std::int64_t count_ = 0;
    std::size_t helpers_ = 0, running_ = 0;
    std::uint64_t generation_ = 0;
};

// Never destroyed: its threads may outlive static destructors.
Pool* pool = [] {
#if !defined(_WIN32)
    // A forked child (a DataLoader's worker) has none of the threads: it starts with a new pool.
    pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });
#endif
    return new Pool;
}();

}  // namespace

void run_pieces(std::int64_t count, int threads, Piece piece, const void* context) {
    if (threads > count) threads = static_cast<int>(count);
    if (threads > 1) {
        pool->run(count, threads, piece, context);
        return;
    }
    for (std::int64_t index = 0; index < count; ++index) piece(context, index);
}

}  // namespace avil
