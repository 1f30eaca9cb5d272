// The Python module sleeptools._core: raw addresses and sizes in, nothing out. It sees neither
// torch nor NumPy; sleeptools.native and sleeptools.models.ops check shapes and make the outputs.
#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "cpu/dispatch.h"
#include "cuda/device.h"

namespace py = pybind11;

namespace {

using Address = std::uintptr_t;
constexpr int kCpu = -1;  // device number that means the CPU

template <class T = const float>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

// An op with its arguments, ready to run any number of times; from another `x` unless that is null.
struct Call {
  std::function<void(const float* x)> run;
};

// As `launch` below, later.
template <class Op>
Call ready(const Op& op, void (*cpu)(const Op&, int), void (*gpu)(const Op&, int, void*),
           int64_t tasks, int64_t work, int device, Address stream) {
  return {[=](const float* x) {
    Op mine = op;
    if (x) mine.x = x;
    if (device == kCpu) {
      cpu(mine, sleeptools::cpu::threads(tasks, work));
    } else {
      gpu(mine, device, at<void>(stream));
    }
  }};
}

// A function that runs at once what `make` makes.
template <class... Arguments>
auto at_once(Call (*make)(Arguments...)) {
  return [make](Arguments... arguments) {
    const Call call = make(arguments...);
    const py::gil_scoped_release released;
    call.run(nullptr);
  };
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

// The calls of a network, each on the others' results but the first, and the hypnodensity from the
// logits that they leave.
struct Network {
  std::vector<Call> calls;
  sleeptools::Hypnodensity last;

  // Both arrays are C-contiguous float32.
  void run(const py::object& x, const py::object& out) const {
    const Memory from(x, PyBUF_SIMPLE), to(out, PyBUF_WRITABLE);
    sleeptools::Hypnodensity op = last;
    op.x = from.data();
    op.out = to.data();
    const py::gil_scoped_release released;
    for (const Call& call : calls) call.run(&call == calls.data() ? op.x : nullptr);
    sleeptools::cpu::kernels().hypnodensity(op, sleeptools::cpu::threads(op.batch, op.values));
  }
};

Network network(std::vector<Call> calls, Address logits, int64_t batch, int64_t values,
                int64_t stages) {
  return {std::move(calls), {nullptr, at(logits), nullptr, batch, values, stages}};
}

// Runs `op` on the CPU in `tasks` tasks of `work` float operations, or enqueues it on a GPU.
template <class Op>
void launch(const Op& op, void (*cpu)(const Op&, int), void (*gpu)(const Op&, int, void*),
            int64_t tasks, int64_t work, int device, Address stream) {
  const py::gil_scoped_release released;
  if (device == kCpu) {
    cpu(op, sleeptools::cpu::threads(tasks, work));
  } else {
    gpu(op, device, at<void>(stream));
  }
}

Call modal_se(Address x, Address w1, Address b1, Address w2, Address b2, Address squeeze,
              Address squeeze_bias, Address excite, Address excite_bias, Address out, int64_t batch,
              int64_t modalities, int64_t samples, bool authors, int device, Address stream) {
  const sleeptools::ModalSe op{
      at(x),       at(w1),           at(b1),     at(w2),          at(b2),
      at(squeeze), at(squeeze_bias), at(excite), at(excite_bias), at<float>(out),
      batch,       modalities,       samples,    authors};
  return ready(op, sleeptools::cpu::kernels().modal_se, sleeptools::cuda::modal_se, batch,
               4 * modalities * modalities * samples, device, stream);
}

sleeptools::Norm norm(Address gamma, Address beta, double eps) {
  return {at(gamma), at(beta), static_cast<float>(eps)};
}

Call attention(Address x, Address w_in, Address b_in, Address w_out, Address b_out, Address gamma,
               Address beta, Address workspace, Address out, int64_t batch, int64_t tokens,
               int64_t width, int64_t heads, int64_t slots, double eps, bool bf16, int device,
               Address stream) {
  const sleeptools::Attention op{at(x),
                                 at<const void>(w_in),
                                 at<const void>(w_out),
                                 at(b_in),
                                 at(b_out),
                                 at<float>(workspace),
                                 at<float>(out),
                                 batch,
                                 tokens,
                                 width,
                                 heads,
                                 slots,
                                 bf16,
                                 norm(gamma, beta, eps)};
  return ready(op, sleeptools::cpu::kernels().attention, sleeptools::cuda::attention, batch,
               sleeptools::Attention::work(tokens, width), device, stream);
}

Call classifier(Address x, Address gate, Address w1, Address b1, Address w2, Address b2,
                Address hidden_layer, Address out, int64_t batch, int64_t inputs, int64_t hidden,
                int64_t stages, bool rectify, int device, Address stream) {
  const sleeptools::Classifier op{
      at(x),          at(gate), at(w1), at(b1), at(w2), at(b2), at<float>(hidden_layer),
      at<float>(out), batch,    inputs, hidden, stages, rectify};
  // Part of an epoch is a task: one epoch takes as long to read the weights as several.
  return ready(op, sleeptools::cpu::kernels().classifier, sleeptools::cuda::classifier,
               (batch + 3) / 4 * ((hidden + 3) / 4), 32 * inputs, device, stream);
}

Call feed_forward(Address x, Address w1, Address b1, Address w2, Address b2, Address workspace,
                  Address out, int64_t rows, int64_t width, int64_t hidden, int64_t slots,
                  bool bf16, uint32_t drop_below, uint64_t seed, Address gamma, Address beta,
                  double eps, int device, Address stream) {
  const sleeptools::FeedForward op{at(x),
                                   at<const void>(w1),
                                   at<const void>(w2),
                                   at(b1),
                                   at(b2),
                                   at<float>(workspace),
                                   at<float>(out),
                                   rows,
                                   width,
                                   hidden,
                                   slots,
                                   bf16,
                                   drop_below,
                                   seed,
                                   norm(gamma, beta, eps)};
  return ready(op, sleeptools::cpu::kernels().feed_forward, sleeptools::cuda::feed_forward, rows,
               4 * width * hidden, device, stream);
}

void feed_forward_backward(Address x, Address grad, Address w1, Address w1t, Address w2t,
                           Address b1, Address workspace, Address d_x, Address d_w1, Address d_b1,
                           Address d_w2, int64_t rows, int64_t width, int64_t hidden, int64_t slots,
                           bool bf16, uint32_t drop_below, uint64_t seed, int device,
                           Address stream) {
  const sleeptools::FeedForwardBackward op{at(x),
                                           at(grad),
                                           at<const void>(w1),
                                           at<const void>(w1t),
                                           at<const void>(w2t),
                                           at(b1),
                                           at<float>(workspace),
                                           at<float>(d_x),
                                           at<float>(d_w1),
                                           at<float>(d_b1),
                                           at<float>(d_w2),
                                           rows,
                                           width,
                                           hidden,
                                           slots,
                                           bf16,
                                           drop_below,
                                           seed};
  launch(op, sleeptools::cpu::kernels().feed_forward_backward,
         sleeptools::cuda::feed_forward_backward, rows, 10 * width * hidden, device, stream);
}

Call two_stream_conv(Address x, Address packed, Address workspace, Address out, Address layers,
                     Address streams, int64_t batch, int64_t channels, int64_t samples,
                     int64_t maps, int64_t steps, int64_t stream_count, int64_t input_size,
                     int64_t rows_size, int64_t margin, int64_t activation, double slope, bool bf16,
                     int64_t slots, int64_t work, int device, Address stream) {
  using namespace sleeptools;
  const TwoStreamConv op{at(x),
                         at(packed),
                         at<const ConvLayer>(layers),
                         at<const ConvStream>(streams),
                         at<float>(workspace),
                         at<float>(out),
                         batch,
                         channels,
                         samples,
                         maps,
                         steps,
                         stream_count,
                         input_size,
                         rows_size,
                         margin,
                         activation,
                         static_cast<float>(slope),
                         bf16};
  // The workspace has `slots` slots, and no more threads than tasks are started.
  return ready(op, cpu::kernels().two_stream_conv, cuda::two_stream_conv,
               std::min(slots, batch * stream_count), work, device, stream);
}

void conv_block(Address x, Address weight, Address gamma, Address beta, Address convolved,
                Address mean, Address variance, Address out, Address workspace, Address layer,
                int64_t batch, int64_t samples, int64_t slots, int64_t activation, double slope,
                double eps, uint32_t drop_below, uint64_t seed, bool bf16, int64_t work, int device,
                Address stream) {
  using namespace sleeptools;
  const ConvBlock op{at(x),
                     at(weight),
                     at(gamma),
                     at(beta),
                     at<const ConvLayer>(layer),
                     at<float>(convolved),
                     at<float>(mean),
                     at<float>(variance),
                     at<float>(out),
                     at<float>(workspace),
                     batch,
                     samples,
                     slots,
                     activation,
                     static_cast<float>(slope),
                     static_cast<float>(eps),
                     drop_below,
                     seed,
                     bf16};
  launch(op, cpu::kernels().conv_block, cuda::conv_block, std::min(slots, batch), work, device,
         stream);
}

// `d_x` is 0 where it is not wanted.
void conv_block_backward(Address x, Address weight, Address gamma, Address beta, Address convolved,
                         Address mean, Address variance, Address grad, Address d_weight,
                         Address d_gamma, Address d_beta, Address workspace, Address d_x,
                         Address layer, int64_t batch, int64_t samples, int64_t slots,
                         int64_t activation, double slope, double eps, uint32_t drop_below,
                         uint64_t seed, bool bf16, int64_t work, int device, Address stream) {
  using namespace sleeptools;
  const ConvBlock block{at(x),
                        at(weight),
                        at(gamma),
                        at(beta),
                        at<const ConvLayer>(layer),
                        at<float>(convolved),
                        at<float>(mean),
                        at<float>(variance),
                        nullptr,
                        at<float>(workspace),
                        batch,
                        samples,
                        slots,
                        activation,
                        static_cast<float>(slope),
                        static_cast<float>(eps),
                        drop_below,
                        seed,
                        bf16};
  const ConvBlockBackward op{
      block, at(grad), at<float>(d_x), at<float>(d_weight), at<float>(d_gamma), at<float>(d_beta)};
  launch(op, cpu::kernels().conv_block_backward, cuda::conv_block_backward, std::min(slots, batch),
         work, device, stream);
}

void dropout(Address x, Address out, int64_t batch, int64_t steps, int64_t maps,
             uint32_t drop_below, uint64_t seed, int device, Address stream) {
  constexpr int64_t kRandomWord = 16;  // operations
  const sleeptools::Dropout op{at(x), at<float>(out), batch, steps, maps, drop_below, seed};
  launch(op, sleeptools::cpu::kernels().dropout, sleeptools::cuda::dropout, batch,
         kRandomWord * steps * maps, device, stream);
}

template <class Op>
int64_t conv_block_workspace(Address layer, int64_t batch, int64_t samples, int64_t slots) {
  return Op::workspace_floats(*at<const sleeptools::ConvLayer>(layer), batch, samples, slots);
}

sleeptools::SeparableStream separable_stream_of(Address widths, int64_t samples, int64_t blocks,
                                                int64_t kernel) {
  sleeptools::SeparableStream op{};
  op.widths = at<const int64_t>(widths);
  op.samples = samples;
  op.blocks = blocks;
  op.kernel = kernel;
  return op;
}

// Floats of workspace for each thread on the CPU, or for each (epoch, signal) on a GPU.
int64_t separable_stream_workspace(Address widths, int64_t samples, int64_t blocks, int64_t kernel,
                                   int device) {
  using sleeptools::SeparableStream;
  const SeparableStream op = separable_stream_of(widths, samples, blocks, kernel);
  if (device == kCpu) return workspace(op, SeparableStream::kMaxLanes).floats;
  return task_floats(op) > SeparableStream::kMaxShared ? task_floats(op) : 0;
}

Call separable_stream(Address x, Address weights, Address space, Address out, Address widths,
                      int64_t samples, int64_t blocks, int64_t kernel, int64_t batch,
                      int64_t signals, int64_t slots, int64_t work, int device, Address stream) {
  sleeptools::SeparableStream op = separable_stream_of(widths, samples, blocks, kernel);
  op.x = at(x);
  op.weights = at(weights);
  op.space = at<float>(space);
  op.out = at<float>(out);
  op.batch = batch;
  op.signals = signals;
  // The workspace has `slots` slots, and no more threads than tasks are started.
  return ready(op, sleeptools::cpu::kernels().separable_stream, sleeptools::cuda::separable_stream,
               std::min(slots, batch * signals), work, device, stream);
}

void section_filter(Address x, Address sections, Address steady, int64_t rows, int64_t samples,
                    int64_t count, int64_t memory, bool backwards, bool from_rest, int device,
                    Address stream) {
  const sleeptools::SectionFilter op{at<float>(x),
                                     at<const double>(sections),
                                     at<const double>(steady),
                                     rows,
                                     samples,
                                     count,
                                     memory,
                                     backwards,
                                     from_rest};
  launch(op, sleeptools::cpu::kernels().section_filter, sleeptools::cuda::section_filter, 1, 0,
         device, stream);
}

void polyphase(Address x, Address taps, Address out, int64_t rows, int64_t padded, int64_t size,
               int64_t up, int64_t down, int64_t width, int device, Address stream) {
  const sleeptools::Polyphase op{at(x), at(taps), at<float>(out), rows, padded,
                                 size,  up,       down,           width};
  launch(op, sleeptools::cpu::kernels().polyphase, sleeptools::cuda::polyphase, 1, 0, device,
         stream);
}

std::vector<std::string> variant_names() {
  std::vector<std::string> names;
  for (const auto& variant : sleeptools::cpu::variants()) names.push_back(variant.name);
  return names;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  py::register_exception<sleeptools::cuda::Unavailable>(m, "Unavailable");
  m.attr("MAX_MODALITIES") = sleeptools::ModalSe::kMaxModalities;
  m.def("variants", variant_names);
  m.def("variant", [] { return sleeptools::cpu::kernels().name; });
  m.def("select", sleeptools::cpu::select);
  m.def("set_threads", sleeptools::cpu::set_threads);
  m.def("set_threads_here", sleeptools::cpu::set_threads_here);
  m.def("cuda_architectures", sleeptools::cuda::architectures);
  m.def("cuda_devices", sleeptools::cuda::devices);

  m.def("threads", sleeptools::cpu::threads);

  m.def("modal_se", at_once(modal_se));
  m.def("attention", at_once(attention));
  m.def("attention_workspace", sleeptools::Attention::workspace_floats);
  m.def("attention_work", sleeptools::Attention::work);
  m.def("classifier", at_once(classifier));
  m.def("feed_forward", at_once(feed_forward));
  m.def("feed_forward_workspace", sleeptools::FeedForward::workspace_floats);
  m.def("feed_forward_backward", feed_forward_backward);
  m.def("feed_forward_backward_workspace", sleeptools::FeedForwardBackward::workspace_floats);
  m.def("two_stream_conv", at_once(two_stream_conv));
  m.def("conv_block", conv_block);
  m.def("conv_block_backward", conv_block_backward);
  m.def("dropout", dropout);
  m.def("conv_block_workspace", conv_block_workspace<sleeptools::ConvBlock>);
  m.def("conv_block_backward_workspace", conv_block_workspace<sleeptools::ConvBlockBackward>);
  m.def("separable_stream", at_once(separable_stream));
  m.def("separable_stream_workspace", separable_stream_workspace);
  m.def("section_filter", section_filter);
  m.def("polyphase", polyphase);

  py::class_<Call>(m, "Call")
      .def(py::init(
          [](const std::function<void()>& run) { return Call{[run](const float*) { run(); }}; }))
      .def("run", [](const Call& call) {
        const py::gil_scoped_release released;
        call.run(nullptr);
      });
  py::class_<Network>(m, "Network").def(py::init(&network)).def("run", &Network::run);
  py::module_ calls = m.def_submodule("calls", "ops that are made ready to run");
  calls.def("modal_se", modal_se);
  calls.def("attention", attention);
  calls.def("classifier", classifier);
  calls.def("feed_forward", feed_forward);
  calls.def("two_stream_conv", two_stream_conv);
  calls.def("separable_stream", separable_stream);
}
