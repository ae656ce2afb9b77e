// The division of a bank's partitions into pieces of work that does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "bank.h"

namespace avil {

/// Elements of the unit in which work is divided, a multiple of what any kernel takes at a time.
constexpr std::int64_t kTile = 128 * kBlock;

/// Elements from which on stores go past the caches: 16 MiB of fp32.
constexpr std::int64_t kCached = 1 << 22;

/// Pieces of work per call: enough to share among the threads of a large machine.
constexpr std::int64_t kMaxSegments = 1024;

/// fp64 sums kept per call, one set per segment: ½ MiB.
constexpr std::int64_t kMaxPartialSums = 1 << 16;

/// A contiguous run of one partition.
struct Span {
    std::int64_t partition, offset, length;
};

/// The tiles of all partitions, in order, cut into at most `limit` segments of nearly equal length.
class Segments {
public:
    Segments(const std::vector<Partition>& partitions, std::int64_t limit);

    std::int64_t count() const { return count_; }

    /// Threads worth using when each element costs as much as reading `rows` deltas.
    int threads(int wanted, int rows) const;

    /// Whether the partitions are too large for what is written to be found in a cache afterwards.
    bool beyond_caches() const { return elements_ >= kCached; }

    /// The first span of a segment, or what follows `span` in it; `length` is 0 at its end.
    Span first(std::int64_t segment) const;
    Span next(std::int64_t segment, const Span& span) const;

private:
    Span clip(std::int64_t segment, std::int64_t partition, std::int64_t tile) const;
    std::int64_t end(std::int64_t segment) const { return tiles() * (segment + 1) / count_; }
    std::int64_t tiles() const { return starts_.back(); }

    const std::vector<Partition>& partitions_;
    std::vector<std::int64_t> starts_;  // number of the first tile of each partition, and their total
    std::int64_t count_, elements_ = 0;
};

}  // namespace avil
