#include "ledger.h"

#include <algorithm>
#include <stdexcept>
#include <tuple>
#include <utility>

namespace avil {
namespace {

std::string place(const Interval& at) {
    return "offset " + std::to_string(at.offset) + " of partition " + std::to_string(at.partition) + " on rank " +
           std::to_string(at.rank);
}

/// starts[i] = Σ numels[:i], with the total at the end.
std::vector<std::int64_t> running_starts(const std::vector<std::int64_t>& numels) {
    std::vector<std::int64_t> starts{0};
    starts.reserve(numels.size() + 1);
    for (std::size_t i = 0; i < numels.size(); ++i) {
        if (numels[i] < 0)
            throw std::invalid_argument("parameter " + std::to_string(i) + " has " + std::to_string(numels[i]) +
                                        " elements, but must have 0 or more");
        starts.push_back(starts.back() + numels[i]);
    }
    return starts;
}

/// Joins neighbours that are contiguous both in position and in place.
void merge(std::vector<Interval>& intervals) {
    std::size_t kept = 0;
    for (const Interval& next : intervals) {
        if (next.length == 0) continue;
        Interval* last = kept > 0 ? &intervals[kept - 1] : nullptr;
        if (last != nullptr && last->end() == next.position && last->rank == next.rank &&
            last->partition == next.partition && last->offset + last->length == next.offset)
            last->length += next.length;
        else
            intervals[kept++] = next;
    }
    intervals.resize(kept);
}

}  // namespace

Ledger::Ledger(std::vector<std::int64_t> numels, std::vector<std::vector<std::int64_t>> sizes,
               std::vector<Interval> intervals)
    : numels_(std::move(numels)),
      starts_(running_starts(numels_)),
      sizes_(std::move(sizes)),
      intervals_(std::move(intervals)) {
    const auto by_position = [](const Interval& a, const Interval& b) { return a.position < b.position; };
    if (!std::is_sorted(intervals_.begin(), intervals_.end(), by_position))
        std::sort(intervals_.begin(), intervals_.end(), by_position);
    merge(intervals_);
    check_cover();
    check_places();
}

Ledger Ledger::from_slices(std::vector<std::int64_t> numels, std::vector<std::vector<std::int64_t>> sizes,
                           const std::vector<Slice>& slices) {
    const std::vector<std::int64_t> starts = running_starts(numels);
    std::vector<Interval> intervals;
    intervals.reserve(slices.size());
    for (const Slice& s : slices) {
        const std::string name = "slice [" + std::to_string(s.start) + ", " + std::to_string(s.stop) +
                                 ") of parameter " + std::to_string(s.parameter);
        if (s.parameter < 0 || s.parameter >= static_cast<std::int64_t>(numels.size()))
            throw std::invalid_argument(name + ": there are " + std::to_string(numels.size()) + " parameters");
        if (s.start < 0 || s.stop < s.start || s.stop > numels[s.parameter])
            throw std::invalid_argument(name + " is not within its " + std::to_string(numels[s.parameter]) +
                                        " elements");
        if (s.rank < 0 || s.rank >= static_cast<std::int64_t>(sizes.size()))
            throw std::invalid_argument(name + " is on rank " + std::to_string(s.rank) + ", but there are " +
                                        std::to_string(sizes.size()) + " ranks");
        if (s.partition < 0 || s.partition >= static_cast<std::int64_t>(sizes[s.rank].size()))
            throw std::invalid_argument(name + " is in partition " + std::to_string(s.partition) + ", but rank " +
                                        std::to_string(s.rank) + " has " + std::to_string(sizes[s.rank].size()) +
                                        " partitions");
        intervals.push_back({starts[s.parameter] + s.start, s.stop - s.start, s.offset,
                             static_cast<std::int32_t>(s.rank), static_cast<std::int32_t>(s.partition)});
    }
    return Ledger(std::move(numels), std::move(sizes), std::move(intervals));
}

std::string Ledger::element(std::int64_t position) const {
    const auto after = std::upper_bound(starts_.begin(), starts_.end(), position);
    const std::int64_t parameter = after - starts_.begin() - 1;
    return "element " + std::to_string(position - starts_[parameter]) + " of parameter " + std::to_string(parameter);
}

void Ledger::check_cover() const {
    std::int64_t covered = 0;
    for (const Interval& next : intervals_) {
        if (next.position > covered) throw std::invalid_argument(element(covered) + " lies in no partition");
        if (next.position < covered)
            throw std::invalid_argument(element(next.position) + " lies in two places, one at " + place(next));
        covered = next.end();
    }
    if (covered != starts_.back()) throw std::invalid_argument(element(covered) + " lies in no partition");
}

void Ledger::check_places() const {
    const auto key = [](const Interval& x) { return std::make_tuple(x.rank, x.partition, x.offset); };
    std::vector<std::vector<std::int64_t>> ends(sizes_.size());
    for (std::size_t rank = 0; rank < sizes_.size(); ++rank) ends[rank].assign(sizes_[rank].size(), 0);
    bool ascending = true;
    for (const Interval& next : intervals_) {
        const std::int64_t size = sizes_[next.rank][next.partition];
        if (next.offset < 0 || next.offset > size - next.length)
            throw std::invalid_argument(element(next.position) + " at " + place(next) + " to " +
                                        std::to_string(next.offset + next.length) + " is out of its " +
                                        std::to_string(size) + " elements");
        std::int64_t& end = ends[next.rank][next.partition];
        ascending = ascending && next.offset >= end;
        end = next.offset + next.length;
    }
    if (ascending) return;  // every partition was filled from its start to its end
    std::vector<Interval> places = intervals_;
    std::sort(places.begin(), places.end(), [&](const Interval& a, const Interval& b) { return key(a) < key(b); });
    for (std::size_t i = 1; i < places.size(); ++i) {
        const Interval &a = places[i - 1], &b = places[i];
        if (a.rank == b.rank && a.partition == b.partition && a.offset + a.length > b.offset)
            throw std::invalid_argument(element(a.position) + " and " + element(b.position) + " overlap at " + place(b));
    }
}

}  // namespace avil
