// The layouts that training engines use.
#pragma once

#include "ledger.h"

namespace avil {

/// groups[p] names the parameters of partition p, in their order there.
using Groups = std::vector<std::vector<std::int64_t>>;

/// ZeRO 1 and 2: the parameters of a group laid end to end, padded to a multiple of ranks · alignment, and
/// split evenly over the ranks. One rank and alignment 1 give the layout of a single process.
Ledger flat_layout(const std::vector<std::int64_t>& numels, const Groups& groups, std::int64_t ranks,
                   std::int64_t alignment);

/// ZeRO 3: every parameter is padded to a multiple of the ranks and split evenly over them; a rank's shares
/// of a group's parameters lie end to end.
Ledger sharded_layout(const std::vector<std::int64_t>& numels, const Groups& groups, std::int64_t ranks);

}  // namespace avil
