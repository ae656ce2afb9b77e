// Which slice of which parameter lies in which partition on which rank.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace avil {

/// Elements [start, stop) of a parameter, in a partition of a rank from `offset` on.
struct Slice {
    std::int64_t parameter, start, stop;
    std::int64_t rank, partition, offset;
};

/// A run of elements of all parameters laid end to end, in a partition of a rank from `offset` on.
struct Interval {
    std::int64_t position, length, offset;
    std::int32_t rank, partition;

    std::int64_t end() const { return position + length; }
};

/// A layout: every element of every parameter has exactly one place, and no two share one.
class Ledger {
public:
    /// Throws std::invalid_argument, naming the element, for a gap, an overlap or a slice out of bounds.
    static Ledger from_slices(std::vector<std::int64_t> numels, std::vector<std::vector<std::int64_t>> sizes,
                              const std::vector<Slice>& slices);

    /// Number of elements of each parameter.
    const std::vector<std::int64_t>& numels() const { return numels_; }
    /// sizes()[rank][partition]: elements with padding.
    const std::vector<std::vector<std::int64_t>>& sizes() const { return sizes_; }
    /// Sorted by position, contiguous from 0 to the number of elements, longest possible.
    const std::vector<Interval>& intervals() const { return intervals_; }

private:
    Ledger(std::vector<std::int64_t> numels, std::vector<std::vector<std::int64_t>> sizes,
           std::vector<Interval> intervals);

    void check_cover() const;
    void check_places() const;
    std::string element(std::int64_t position) const;

    std::vector<std::int64_t> numels_, starts_;
    std::vector<std::vector<std::int64_t>> sizes_;
    std::vector<Interval> intervals_;
};

}  // namespace avil
