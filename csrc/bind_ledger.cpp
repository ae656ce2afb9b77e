// The ledger as Python sees it: tables are int64 arrays, one row per slice or move.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <memory>

#include "bind_ledger.h"
#include "copy_plan.h"

namespace py = pybind11;

namespace avil {
namespace {

using Table = py::array_t<std::int64_t, py::array::c_style>;

/// The rows as an array [rows, columns] that owns them, without a copy.
template <class Row>
Table as_table(std::vector<Row> rows) {
    constexpr py::ssize_t columns = sizeof(Row) / sizeof(std::int64_t);
    static_assert(sizeof(Row) == columns * sizeof(std::int64_t), "a row holds nothing but int64");
    auto owner = std::make_unique<std::vector<Row>>(std::move(rows));
    const auto count = static_cast<py::ssize_t>(owner->size());
    auto* data = reinterpret_cast<std::int64_t*>(owner->data());
    const py::capsule free(owner.release(), [](void* p) { delete static_cast<std::vector<Row>*>(p); });
    return Table({count, columns}, data, free);
}

Ledger from_slices(std::vector<std::int64_t> numels, std::vector<std::vector<std::int64_t>> sizes, const Table& rows) {
    if (rows.ndim() != 2 || rows.shape(1) != 6)
        throw std::invalid_argument("slices must be an array [slices, 6] of parameter, start, stop, rank, partition, "
                                    "offset");
    std::vector<Slice> slices(rows.shape(0));
    if (!slices.empty()) std::memcpy(slices.data(), rows.data(), slices.size() * sizeof(Slice));
    const py::gil_scoped_release release;
    return Ledger::from_slices(std::move(numels), std::move(sizes), slices);
}

}  // namespace

void bind_ledger(py::module_& module) {
    py::class_<Ledger>(module, "Ledger", "A layout of parameters in partitions on ranks.")
        .def_static("from_slices", &from_slices, py::arg("numels"), py::arg("sizes"), py::arg("slices"));
    module.def(
        "copy_plan",
        [](const Ledger& source, const Ledger& destination, std::int64_t rank) {
            std::vector<Move> moves;
            {
                const py::gil_scoped_release release;
                moves = copy_plan(source, destination, rank);
            }
            return as_table(std::move(moves));
        },
        py::arg("source"), py::arg("destination"), py::arg("rank"));
}

}  // namespace avil
