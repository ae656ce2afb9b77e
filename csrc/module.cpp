// avil_fast._C: the operations as Python sees them, and the ledger of bind_ledger.cpp.
// Addresses are integers; ops/cpu.py passes those of checked tensors.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "bind_ledger.h"
#include "kernels.h"
#include "openmp.h"

namespace py = pybind11;

namespace avil {
namespace {

using Addresses = std::vector<std::uintptr_t>;
using Lengths = std::vector<std::int64_t>;

template <class T>
std::vector<T*> pointers(const Addresses& addresses) {
    std::vector<T*> result;
    result.reserve(addresses.size());
    for (const std::uintptr_t address : addresses) result.push_back(reinterpret_cast<T*>(address));
    return result;
}

Bank make_bank(int tasks, Codec codec, const Lengths& numels, const Addresses& codes, const Lengths& code_strides,
               const Addresses& scales, const Lengths& scale_strides) {
    const std::size_t partitions = numels.size();
    if (codes.size() != partitions || code_strides.size() != partitions)
        throw std::invalid_argument("codes and their strides must be given for each of the partitions");
    const std::size_t scaled = codec == Codec::int8 || codec == Codec::fp8 ? partitions : 0;
    if (scales.size() != scaled || scale_strides.size() != scaled)
        throw std::invalid_argument("scales and their strides must be given for int8 and fp8 codes, and for them alone");
    if (tasks < 1 || tasks > kMaxTasks)
        throw std::invalid_argument("the number of deltas is " + std::to_string(tasks) + ", but must be from 1 to " +
                                    std::to_string(kMaxTasks));
    Bank bank{tasks, codec, {}};
    bank.partitions.reserve(partitions);
    for (std::size_t p = 0; p < partitions; ++p)
        bank.partitions.push_back({numels[p], reinterpret_cast<char*>(codes[p]), code_strides[p],
                                   scaled ? reinterpret_cast<float*>(scales[p]) : nullptr,
                                   scaled ? scale_strides[p] : 0});
    return bank;
}

void demand(const char* name, std::size_t given, std::size_t wanted) {
    if (given != wanted)
        throw std::invalid_argument(std::string(name) + " has " + std::to_string(given) + " entries, but must have " +
                                    std::to_string(wanted));
}

void weighted_sum(const Bank& bank, const Addresses& out, const Addresses& base, std::vector<float> alpha,
                  Low low_type, const Addresses& low, int threads) {
    demand("out", out.size(), bank.partitions.size());
    demand("base", base.size(), bank.partitions.size());
    demand("alpha", alpha.size(), bank.tasks);
    demand("low", low.size(), low_type == Low::none ? 0 : bank.partitions.size());
    const WeightedSum args{pointers<float>(out), pointers<const float>(base), std::move(alpha), low_type,
                           pointers<void>(low)};
    const Kernels& chosen = kernels();
    const py::gil_scoped_release release;
    chosen.weighted_sum(bank, args, threads);
}

void delta_dots(const Bank& bank, bool grad_is_bf16, const Addresses& grad, std::uintptr_t totals, int threads) {
    demand("grad", grad.size(), bank.partitions.size());
    const DeltaDots args{grad_is_bf16, pointers<const void>(grad), reinterpret_cast<double*>(totals)};
    const Kernels& chosen = kernels();
    const py::gil_scoped_release release;
    chosen.delta_dots(bank, args, threads);
}

double capture(const Bank& bank, int slot, const Addresses& theta, const Addresses& base, Low low_type,
               const Addresses& low, int threads) {
    demand("theta", theta.size(), bank.partitions.size());
    demand("base", base.size(), bank.partitions.size());
    demand("low", low.size(), low_type == Low::none ? 0 : bank.partitions.size());
    if (slot < 0 || slot >= bank.tasks)
        throw std::invalid_argument("slot is " + std::to_string(slot) + ", but must be from 0 to " +
                                    std::to_string(bank.tasks - 1));
    Capture args{slot, pointers<float>(theta), pointers<const float>(base), low_type, pointers<void>(low), 0};
    const Kernels& chosen = kernels();
    const py::gil_scoped_release release;
    chosen.capture(bank, args, threads);
    return args.squares;
}

void delta_gram(const Bank& bank, std::uintptr_t gram, int threads) {
    const DeltaGram args{reinterpret_cast<double*>(gram)};
    const Kernels& chosen = kernels();
    const py::gil_scoped_release release;
    chosen.delta_gram(bank, args, threads);
}

void bind_operations(py::module_& module) {
    py::enum_<Codec>(module, "Codec", "How a delta is stored.")
        .value("fp32", Codec::fp32)
        .value("bf16", Codec::bf16)
        .value("int8", Codec::int8)
        .value("fp8", Codec::fp8);
    py::enum_<Low>(module, "Low", "The type of a low-precision copy.")
        .value("none", Low::none)
        .value("bf16", Low::bf16)
        .value("fp16", Low::fp16);
    py::class_<Bank>(module, "Bank", "Addresses of a bank's partitions; the memory must outlive it.")
        .def(py::init(&make_bank), py::arg("tasks"), py::arg("codec"), py::arg("numels"), py::arg("codes"),
             py::arg("code_strides"), py::arg("scales"), py::arg("scale_strides"));
    module.def(
        "isa", [] { return kernels().isa; }, "The instruction set in use; AVIL_ISA forces one.");
    module.def("lose_openmp", &lose_openmp, "Use threads of our own: this process was forked before it loaded this.");
    module.def("weighted_sum", &weighted_sum, py::arg("bank"), py::arg("out"), py::arg("base"), py::arg("alpha"),
               py::arg("low_type"), py::arg("low"), py::arg("threads"));
    module.def("delta_dots", &delta_dots, py::arg("bank"), py::arg("grad_is_bf16"), py::arg("grad"),
               py::arg("totals"), py::arg("threads"));
    module.def("capture", &capture, py::arg("bank"), py::arg("slot"), py::arg("theta"), py::arg("base"),
               py::arg("low_type"), py::arg("low"), py::arg("threads"));
    module.def("delta_gram", &delta_gram, py::arg("bank"), py::arg("gram"), py::arg("threads"));
}

}  // namespace
}  // namespace avil

PYBIND11_MODULE(_C, module) {
    module.doc() = "The C++ extension of avil_fast: kernels for the CPU, and the delta ledger.";
    module.attr("BLOCK") = avil::kBlock;
    module.attr("MAX_TASKS") = avil::kMaxTasks;
    avil::bind_operations(module);
    avil::bind_ledger(module);
}
