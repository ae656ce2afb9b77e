#include "pool.h"

#include <condition_variable>
#include <cstdint>
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
    void run(int threads, void (*work)(void*), void* context) {
        const std::lock_guard<std::mutex> one_call_at_a_time(call_);
        const std::size_t helpers = grow(static_cast<std::size_t>(threads) - 1);
        {
            const std::lock_guard<std::mutex> lock(state_);
            work_ = work;
            context_ = context;
            helpers_ = running_ = helpers;
            ++generation_;
        }
        wake_.notify_all();
        work(context);
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
            work_(context_);
            lock.lock();
            if (--running_ == 0) done_.notify_one();
        }
    }

    std::mutex call_, state_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> workers_;
    void (*work_)(void*) = nullptr;
    void* context_ = nullptr;
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

void pool_team(int threads, void (*work)(void*), void* context) { pool->run(threads, work, context); }

}  // namespace avil
