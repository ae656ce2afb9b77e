#include "layouts.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace avil {
namespace {

void demand_positive(const char* name, std::int64_t value) {
    if (value < 1)
        throw std::invalid_argument(std::string(name) + " is " + std::to_string(value) + ", but must be 1 or more");
}

void demand_parameter(std::int64_t parameter, std::size_t count) {
    if (parameter < 0 || parameter >= static_cast<std::int64_t>(count))
        throw std::invalid_argument("a group names parameter " + std::to_string(parameter) + ", but there are " +
                                    std::to_string(count));
}

constexpr std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

Ledger flat_layout(const std::vector<std::int64_t>& numels, const Groups& groups, std::int64_t ranks,
                   std::int64_t alignment) {
    demand_positive("ranks", ranks);
    demand_positive("alignment", alignment);
    const std::vector<std::int64_t> starts = running_starts(numels);
    std::vector<Interval> intervals;
    std::vector<std::vector<std::int64_t>> sizes(ranks);
    for (std::size_t group = 0; group < groups.size(); ++group) {
        std::int64_t total = 0;
        for (const std::int64_t parameter : groups[group]) {
            demand_parameter(parameter, numels.size());
            total += numels[parameter];
        }
        const std::int64_t share = ceil_divide(total, ranks * alignment) * alignment;
        for (auto& rank : sizes) rank.push_back(share);
        std::int64_t at = 0;  // in the group laid end to end
        for (const std::int64_t parameter : groups[group]) {
            for (std::int64_t done = 0; done < numels[parameter];) {
                const std::int64_t rank = at / share, offset = at % share;
                const std::int64_t length = std::min(numels[parameter] - done, share - offset);
                intervals.push_back({starts[parameter] + done, length, offset, static_cast<std::int32_t>(rank),
                                     static_cast<std::int32_t>(group)});
                done += length;
                at += length;
            }
        }
    }
    return Ledger(numels, std::move(sizes), std::move(intervals));
}

Ledger sharded_layout(const std::vector<std::int64_t>& numels, const Groups& groups, std::int64_t ranks) {
    demand_positive("ranks", ranks);
    const std::vector<std::int64_t> starts = running_starts(numels);
    std::vector<Interval> intervals;
    intervals.reserve(numels.size() * ranks);
    std::vector<std::vector<std::int64_t>> sizes(ranks);
    for (std::size_t group = 0; group < groups.size(); ++group) {
        std::int64_t offset = 0;  // the same on every rank
        for (const std::int64_t parameter : groups[group]) {
            demand_parameter(parameter, numels.size());
            const std::int64_t share = ceil_divide(numels[parameter], ranks);
            for (std::int64_t rank = 0, done = 0; done < numels[parameter]; ++rank, done += share)
                intervals.push_back({starts[parameter] + done, std::min(share, numels[parameter] - done), offset,
                                     static_cast<std::int32_t>(rank), static_cast<std::int32_t>(group)});
            offset += share;
        }
        for (auto& rank : sizes) rank.push_back(offset);
    }
    return Ledger(numels, std::move(sizes), std::move(intervals));
}

}  // namespace avil
