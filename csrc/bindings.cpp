// The Python module sleeptools._core: addresses and sizes in as keyword arguments, nothing out. It
// sees neither torch nor NumPy; sleeptools.native and sleeptools.models.ops check shapes and make
// the outputs.
#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <climits>
#include <functional>
#include <utility>

#include "arguments.h"
#include "cpu/dispatch.h"
#include "cuda/device.h"
#include "separable_layout.h"
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace py = pybind11;

namespace sleeptools {
namespace {

using Address = std::uintptr_t;
constexpr int kCpu = -1;  // device number that means the CPU

// How an op is divided among the threads of a CPU: independent tasks, and float operations of each.
// Where the workspace has `slots` slots, no more threads than tasks are started.
struct Tasks {
  int64_t count, work;
};

Tasks tasks(const ModalSe& op) {
  return {op.batch, 4 * op.modalities * op.modalities * op.samples};
}

Tasks tasks(const Attention& op) { return {op.batch, Attention::work(op.tokens, op.width)}; }

Tasks tasks(const AttentionBackward& op) {
  const Attention& forward = op.attention;
  const int64_t groups = AttentionBackward::groups(forward.batch);
  const int64_t work = 3 * Attention::work(forward.tokens, forward.width);
  return {std::min(forward.slots, groups), (forward.batch + groups - 1) / groups * work};
}

// Part of an epoch is a task: one epoch takes as long to read the weights as several.
Tasks tasks(const Classifier& op) {
  return {(op.batch + 3) / 4 * ((op.hidden + 3) / 4), 32 * op.inputs};
}

Tasks tasks(const Hypnodensity& op) { return {op.batch, op.values}; }

Tasks tasks(const FeedForward& op) { return {op.rows, 4 * op.width * op.hidden}; }

Tasks tasks(const FeedForwardBackward& op) { return {op.rows, 10 * op.width * op.hidden}; }

Tasks tasks(const TwoStreamConv& op) {
  return {std::min(op.slots, op.batch * op.stream_count), op.work};
}

Tasks tasks(const ConvBlock& op) { return {std::min(op.slots, op.batch), op.work}; }

Tasks tasks(const ConvBlockBackward& op) { return tasks(op.block); }

Tasks tasks(const ConvPlan& op) {
  return {std::min(op.team, op.batch * ConvPlan::kParts), op.work / ConvPlan::kParts};
}

Tasks tasks(const Dropout& op) {
  constexpr int64_t kRandomWord = 16;  // operations
  return {op.batch, kRandomWord * op.steps * op.maps};
}

Tasks tasks(const SeparableStream& op) {
  return {std::min(op.slots, op.batch * op.signals), op.work};
}

// A group of signals is a task; there are as many as of the widest variant, or more.
Tasks tasks(const SeparableBlocks& op) {
  constexpr int64_t kSignals = SeparableBlocks::kSignals;
  const int64_t groups = (op.signals + kSignals - 1) / kSignals;
  return {std::min(op.slots, groups), kSignals * op.work};
}

Tasks tasks(const SeparableBlocksBackward& op) { return tasks(op.blocks); }

Tasks tasks(const SectionFilter&) { return {1, 0}; }

Tasks tasks(const Polyphase&) { return {1, 0}; }

// An op with its arguments and its kernels.
template <class Op>
struct Job {
  Op op;
  Launch launch;
  void (*on_cpu)(const Op&, int threads);
  void (*on_gpu)(const Op&, int device, void* stream);

  // Runs on the CPU, or enqueues the op on a GPU.
  void run() const {
    if (launch.device == kCpu) {
      const Tasks divided = tasks(op);
      on_cpu(op, cpu::threads(divided.count, divided.work));
    } else {
      on_gpu(op, launch.device, launch.stream);
    }
  }
};

template <class Op>
Job<Op> job(const char* name, const Arguments& arguments,
            void (*cpu::Kernels::*on_cpu)(const Op&, int), void (*on_gpu)(const Op&, int, void*)) {
  const auto [op, launch] = from_arguments<Op>(name, arguments);
  return {op, launch, cpu::kernels().*on_cpu, on_gpu};
}

// An op with its arguments, to be run any number of times; from another `x` unless that is null.
struct PreparedOp {
  std::function<void(const float* x)> run;
};

template <class Op>
PreparedOp prepared(const Job<Op>& job) {
  return {[job](const float* x) {
    Job<Op> started = job;
    if (x) started.op.x = x;
    started.run();
  }};
}

// The memory of a Python array, held while this lives.
class Memory {
 public:
  Memory(const py::object& array, int flags) {
    if (PyObject_GetBuffer(array.ptr(), &view_, flags) != 0) throw py::error_already_set();
  }
  ~Memory() { PyBuffer_Release(&view_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  float* data() const { return static_cast<float*>(view_.buf); }

 private:
  Py_buffer view_;
};

// The ops of a network, each on the others' results but the first, and the hypnodensity from the
// logits that they leave.
struct PreparedNetwork {
  std::vector<PreparedOp> ops;
  Hypnodensity last;

  // Both arrays are C-contiguous float32.
  void run(const py::object& x, const py::object& out) const {
    const Memory input(x, PyBUF_SIMPLE), output(out, PyBUF_WRITABLE);
    Job<Hypnodensity> hypnodensity{
        last, {kCpu, nullptr}, cpu::kernels().hypnodensity, cuda::hypnodensity};
    hypnodensity.op.x = input.data();
    hypnodensity.op.out = output.data();
    const py::gil_scoped_release released;
    for (const PreparedOp& op : ops) op.run(&op == ops.data() ? input.data() : nullptr);
    hypnodensity.run();
  }
};

PreparedNetwork prepared_network(std::vector<PreparedOp> ops, Address logits, int64_t batch,
                                 int64_t values, int64_t stages) {
  const auto* address = reinterpret_cast<const float*>(logits);
  return {std::move(ops), {nullptr, address, nullptr, batch, values, stages}};
}

template <class Op>
int64_t conv_block_workspace(Address layer, int64_t batch, int64_t samples, int64_t slots) {
  return Op::workspace_floats(*reinterpret_cast<const ConvLayer*>(layer), batch, samples, slots);
}

template <class Op>
int64_t conv_block_cuda_workspace(Address layer, int64_t batch, bool bf16) {
  return Op::cuda_workspace_floats(*reinterpret_cast<const ConvLayer*>(layer), batch, bf16);
}

// Floats of workspace for each thread on the CPU, or for each (epoch, signal) on a GPU.
int64_t separable_stream_workspace(Address widths, int64_t samples, int64_t blocks, int64_t kernel,
                                   int device) {
  SeparableStream op{};
  op.widths = reinterpret_cast<const int64_t*>(widths);
  op.samples = samples;
  op.blocks = blocks;
  op.kernel = kernel;
  if (device == kCpu) return workspace(op, SeparableStream::kMaxLanes).floats;
  return task_floats(op) > SeparableStream::kMaxShared ? task_floats(op) : 0;
}

// Floats of workspace of separable_blocks, or of its gradients.
int64_t separable_blocks_workspace(Address widths, int64_t signals, int64_t samples, int64_t blocks,
                                   int64_t kernel, int64_t slots, bool backward) {
  SeparableBlocks op{};
  op.widths = reinterpret_cast<const int64_t*>(widths);
  op.signals = signals;
  op.samples = samples;
  op.blocks = blocks;
  op.kernel = kernel;
  op.slots = slots;
  const SeparableLayout layout(op, SeparableBlocks::kSignals);
  return backward ? layout.backward_floats(op) : layout.workspace_floats(op);
}

py::dict fields() {
  py::dict all;
#define SLEEPTOOLS_KINDS(name, Op) all[#name] = field_kinds<Op>();
  SLEEPTOOLS_OPS(SLEEPTOOLS_KINDS)
#undef SLEEPTOOLS_KINDS
  return all;
}

// Has the C library keep freed memory, up to 2 GiB, instead of giving every large block back to the
// system, which then fills it with zeros again, page by page, at the next call. Whether it does.
bool keep_freed_memory() {
#if defined(__GLIBC__)
  return mallopt(M_MMAP_MAX, 0) == 1 && mallopt(M_TRIM_THRESHOLD, INT_MAX) == 1;
#else
  return false;
#endif
}

std::vector<std::string> variant_names() {
  std::vector<std::string> names;
  for (const auto& variant : cpu::variants()) names.push_back(variant.name);
  return names;
}

void bind_workspaces(py::module_& m) {
  const py::kw_only by_name;
  const py::arg batch("batch"), samples("samples"), slots("slots"), width("width"), layer("layer"),
      rows("rows"), hidden("hidden"), tokens("tokens"), bf16("bf16");
  m.def("attention_work", Attention::work, by_name, tokens, width);
  m.def("attention_workspace", Attention::workspace_floats, by_name, tokens, width);
  m.def("attention_backward_groups", AttentionBackward::groups, by_name, batch);
  m.def("attention_backward_workspace", AttentionBackward::workspace_floats, by_name, batch, tokens,
        width, py::arg("heads"), slots);
  m.def("feed_forward_workspace", FeedForward::workspace_floats, by_name, width);
  m.def("feed_forward_backward_workspace", FeedForwardBackward::workspace_floats, by_name, rows,
        width, hidden, slots);
  m.def("feed_forward_backward_cuda_workspace", FeedForwardBackward::cuda_workspace_floats, by_name,
        rows, width, hidden);
  m.def("conv_block_workspace", conv_block_workspace<ConvBlock>, by_name, layer, batch, samples,
        slots);
  m.def("conv_block_backward_workspace", conv_block_workspace<ConvBlockBackward>, by_name, layer,
        batch, samples, slots);
  m.def("conv_block_cuda_workspace", conv_block_cuda_workspace<ConvBlock>, by_name, layer, batch,
        bf16);
  m.def("conv_block_backward_cuda_workspace", conv_block_cuda_workspace<ConvBlockBackward>, by_name,
        layer, batch, bf16);
  m.def("separable_stream_workspace", separable_stream_workspace, by_name, py::arg("widths"),
        samples, py::arg("blocks"), py::arg("kernel"), py::arg("device"));
  m.def("separable_blocks_workspace", separable_blocks_workspace, by_name, py::arg("widths"),
        py::arg("signals"), samples, py::arg("blocks"), py::arg("kernel"), slots,
        py::arg("backward"));
}

PyObject* unavailable = nullptr;  // Python's type of cuda::Unavailable

// Calls a function that Python called without pybind11; its exceptions become Python's.
template <class Function>
PyObject* call(Function function) {
  try {
    return function();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const cuda::Unavailable& error) {
    PyErr_SetString(unavailable, error.what());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

template <class Op>
PyObject* run_once(const Job<Op>& job) {
  {
    const py::gil_scoped_release released;
    job.run();
  }
  Py_RETURN_NONE;
}

template <class Op>
PyObject* prepared_object(const Job<Op>& job) {
  return py::cast(prepared(job)).release().ptr();
}

// A method `name` of keyword arguments alone, without pybind11, whose dict of them costs as much as
// a small op.
#define SLEEPTOOLS_METHOD(name, Op, then)                                                   \
  {#name,                                                                                   \
   reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(                              \
       +[](PyObject*, PyObject* const* values, Py_ssize_t positional, PyObject* keywords) { \
         return call([&] {                                                                  \
           const Arguments arguments{values, positional, keywords};                         \
           return then(job<Op>(#name, arguments, &cpu::Kernels::name, cuda::name));         \
         });                                                                                \
       })),                                                                                 \
   METH_FASTCALL | METH_KEYWORDS, nullptr},

void bind_ops(py::module_& m) {
#define SLEEPTOOLS_RUN(name, Op) SLEEPTOOLS_METHOD(name, Op, run_once)
  static PyMethodDef ops[] = {SLEEPTOOLS_OPS(SLEEPTOOLS_RUN){nullptr, nullptr, 0, nullptr}};
#undef SLEEPTOOLS_RUN
  if (PyModule_AddFunctions(m.ptr(), ops) != 0) throw py::error_already_set();
  m.def("fields", fields);
}

void bind_prepared(py::module_& m) {
  py::class_<PreparedOp>(m, "PreparedOp")
      .def(py::init([](const std::function<void()>& run) {
        return PreparedOp{[run](const float*) { run(); }};
      }))
      .def("run", [](const PreparedOp& op) {
        const py::gil_scoped_release released;
        op.run(nullptr);
      });
  py::class_<PreparedNetwork>(m, "PreparedNetwork")
      .def(py::init(&prepared_network), py::arg("ops"), py::kw_only(), py::arg("logits"),
           py::arg("batch"), py::arg("values"), py::arg("stages"))
      .def("run", &PreparedNetwork::run);

  static PyMethodDef ops[] = {
      SLEEPTOOLS_METHOD(modal_se, ModalSe, prepared_object)
          SLEEPTOOLS_METHOD(attention, Attention, prepared_object)
              SLEEPTOOLS_METHOD(classifier, Classifier, prepared_object)
                  SLEEPTOOLS_METHOD(feed_forward, FeedForward, prepared_object)
                      SLEEPTOOLS_METHOD(two_stream_conv, TwoStreamConv, prepared_object)
                          SLEEPTOOLS_METHOD(separable_stream, SeparableStream, prepared_object)
                              SLEEPTOOLS_METHOD(conv_plan, ConvPlan, prepared_object){
                                  nullptr, nullptr, 0, nullptr}};
  py::module_ prepare = m.def_submodule("prepare", "the ops of inference, to be run later");
  if (PyModule_AddFunctions(prepare.ptr(), ops) != 0) throw py::error_already_set();
}

}  // namespace
}  // namespace sleeptools

PYBIND11_MODULE(_core, m) {
  using namespace sleeptools;
  unavailable = py::register_exception<cuda::Unavailable>(m, "Unavailable").ptr();
  m.attr("MAX_MODALITIES") = ModalSe::kMaxModalities;
  m.def("variants", variant_names);
  m.def("variant", [] { return cpu::kernels().name; });
  m.def("select", cpu::select);
  m.def("keep_freed_memory", keep_freed_memory);
  m.def("threads", cpu::threads);
  m.def("set_threads", cpu::set_threads);
  m.def("set_threads_here", cpu::set_threads_here);
  m.def("cuda_architectures", cuda::architectures);
  m.def("cuda_devices", cuda::devices);
  m.def("cuda_obstacle", cuda::obstacle);
  bind_workspaces(m);
  bind_ops(m);
  bind_prepared(m);
}
