#include "copy_plan.h"

#include <algorithm>
#include <stdexcept>
#include <tuple>

namespace avil {
namespace {

void demand_same_parameters(const Ledger& source, const Ledger& destination) {
    const auto &a = source.numels(), &b = destination.numels();
    if (a.size() != b.size())
        throw std::invalid_argument("the source has " + std::to_string(a.size()) +
                                    " parameters, but the destination has " + std::to_string(b.size()));
    for (std::size_t i = 0; i < a.size(); ++i)
        if (a[i] != b[i])
            throw std::invalid_argument("parameter " + std::to_string(i) + " has " + std::to_string(a[i]) +
                                        " elements in the source, but " + std::to_string(b[i]) +
                                        " in the destination");
}

/// What both layouts have in one piece each: a walk over both along the parameters laid end to end.
template <class Emit>
void intersect(const Ledger& source, const Ledger& destination, std::int64_t rank, const Emit& emit) {
    auto from = source.intervals().begin();
    auto to = destination.intervals().begin();
    while (from != source.intervals().end()) {
        const std::int64_t begin = std::max(from->position, to->position), end = std::min(from->end(), to->end());
        if (rank < 0 || from->rank == rank || to->rank == rank)
            emit(Move{{from->rank, from->partition, from->offset + begin - from->position},
                      {to->rank, to->partition, to->offset + begin - to->position},
                      end - begin});
        const bool from_ends = from->end() == end, to_ends = to->end() == end;
        if (from_ends) ++from;
        if (to_ends) ++to;
    }
}

/// The moves grouped by the source's partition with one pass of counting, cheaper than sorting millions.
std::vector<Move> by_source(const Ledger& source, const Ledger& destination, std::int64_t rank) {
    std::vector<std::size_t> first_partition{0};
    for (const auto& sizes : source.sizes()) first_partition.push_back(first_partition.back() + sizes.size());
    const auto bucket = [&](const Move& move) { return first_partition[move.source.rank] + move.source.partition; };
    std::vector<std::size_t> next(first_partition.back() + 1, 0);
    intersect(source, destination, rank, [&](const Move& move) { ++next[bucket(move) + 1]; });
    for (std::size_t i = 1; i < next.size(); ++i) next[i] += next[i - 1];
    std::vector<Move> moves(next.back());
    intersect(source, destination, rank, [&](const Move& move) { moves[next[bucket(move)]++] = move; });
    return moves;
}

bool follows(const Move& a, const Move& b) {
    const auto after = [&a](const Place& x, const Place& y) {
        return x.rank == y.rank && x.partition == y.partition && x.offset + a.length == y.offset;
    };
    return after(a.source, b.source) && after(a.destination, b.destination);
}

}  // namespace

std::vector<Move> copy_plan(const Ledger& source, const Ledger& destination, std::int64_t rank) {
    demand_same_parameters(source, destination);
    std::vector<Move> moves = by_source(source, destination, rank);
    const auto earlier = [](const Move& a, const Move& b) {
        return std::tie(a.source.rank, a.source.partition, a.source.offset) <
               std::tie(b.source.rank, b.source.partition, b.source.offset);
    };
    if (!std::is_sorted(moves.begin(), moves.end(), earlier)) std::sort(moves.begin(), moves.end(), earlier);
    std::size_t kept = 0;
    for (const Move& move : moves) {
        if (kept > 0 && follows(moves[kept - 1], move)) moves[kept - 1].length += move.length;
        else moves[kept++] = move;
    }
    moves.resize(kept);
    return moves;
}

}  // namespace avil
