// What to copy where to go from one layout to another.
#pragma once

#include "ledger.h"

namespace avil {

struct Place {
    std::int64_t rank, partition, offset;
};

/// `length` contiguous elements from one place to another.
struct Move {
    Place source, destination;
    std::int64_t length;
};

/// The moves from `source` to `destination`, every element once, joined where both sides are contiguous,
/// in the order of the source's places. With rank ≥ 0, only those that leave or reach that rank.
/// Throws std::invalid_argument, naming the first difference, for layouts of other parameters.
std::vector<Move> copy_plan(const Ledger& source, const Ledger& destination, std::int64_t rank);

}  // namespace avil
