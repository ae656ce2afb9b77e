#include "segments.h"

#include <algorithm>

namespace avil {

Segments::Segments(const std::vector<Partition>& partitions, std::int64_t limit) : partitions_(partitions) {
    starts_.reserve(partitions.size() + 1);
    starts_.push_back(0);
    for (const Partition& partition : partitions) {
        starts_.push_back(starts_.back() + (partition.numel + kTile - 1) / kTile);
        elements_ += partition.numel;
    }
    count_ = std::min(tiles(), limit);
}

int Segments::threads(int wanted, int rows) const {
    // Waking a thread takes up to 60 µs (measured on a virtual machine), reading so many elements as long.
    constexpr std::int64_t kElementsPerThread = 1 << 18;
    const std::int64_t useful = elements_ * rows / kElementsPerThread;
    return static_cast<int>(std::clamp<std::int64_t>(useful, 1, std::max(wanted, 1)));
}

Span Segments::first(std::int64_t segment) const {
    const std::int64_t tile = tiles() * segment / count_;
    const auto after = std::upper_bound(starts_.begin(), starts_.end(), tile);
    return clip(segment, after - starts_.begin() - 1, tile);
}

Span Segments::next(std::int64_t segment, const Span& span) const {
    std::int64_t partition = span.partition + 1;
    const std::int64_t partitions = static_cast<std::int64_t>(partitions_.size());
    while (partition < partitions && partitions_[partition].numel == 0) ++partition;
    if (partition >= partitions || starts_[partition] >= end(segment)) return {partition, 0, 0};
    return clip(segment, partition, starts_[partition]);
}

Span Segments::clip(std::int64_t segment, std::int64_t partition, std::int64_t tile) const {
    const std::int64_t begin = (tile - starts_[partition]) * kTile;
    const std::int64_t stop = std::min((end(segment) - starts_[partition]) * kTile, partitions_[partition].numel);
    return {partition, begin, stop - begin};
}

}  // namespace avil
