// The Python module sleeptools._core: raw addresses and sizes in, nothing out. It sees neither
// torch nor NumPy; sleeptools.native and sleeptools.ops check shapes and make the outputs.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>

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

void modal_se(Address x, Address w1, Address b1, Address w2, Address b2, Address squeeze,
              Address squeeze_bias, Address excite, Address excite_bias, Address out, int64_t batch,
              int64_t modalities, int64_t samples, bool authors, int device, Address stream) {
  const sleeptools::ModalSe op{
      at(x),       at(w1),           at(b1),     at(w2),          at(b2),
      at(squeeze), at(squeeze_bias), at(excite), at(excite_bias), at<float>(out),
      batch,       modalities,       samples,    authors};
  launch(op, sleeptools::cpu::kernels().modal_se, sleeptools::cuda::modal_se, batch,
         4 * modalities * modalities * samples, device, stream);
}

void feed_forward(Address x, Address w1, Address b1, Address w2, Address b2, Address workspace,
                  Address out, int64_t rows, int64_t width, int64_t hidden, int64_t slots,
                  bool bf16, uint32_t drop_below, uint64_t seed, int device, Address stream) {
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
                                   seed};
  launch(op, sleeptools::cpu::kernels().feed_forward, sleeptools::cuda::feed_forward, rows,
         4 * width * hidden, device, stream);
}

void feed_forward_backward(Address x, Address grad, Address w1, Address b1, Address w1t,
                           Address w2t, Address workspace, Address d_x, Address d_w1, Address d_b1,
                           Address d_w2t, int64_t rows, int64_t width, int64_t padded,
                           int64_t hidden, uint32_t drop_below, uint64_t seed, int device,
                           Address stream) {
  const sleeptools::FeedForwardBackward op{at(x),
                                           at(grad),
                                           at(w1),
                                           at(b1),
                                           at(w1t),
                                           at(w2t),
                                           at<float>(workspace),
                                           at<float>(d_x),
                                           at<float>(d_w1),
                                           at<float>(d_b1),
                                           at<float>(d_w2t),
                                           rows,
                                           width,
                                           padded,
                                           hidden,
                                           drop_below,
                                           seed};
  launch(op, sleeptools::cpu::kernels().feed_forward_backward,
         sleeptools::cuda::feed_forward_backward, rows, 10 * width * hidden, device, stream);
}

void two_stream_conv(Address x, Address packed, Address workspace, Address out, Address layers,
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
  launch(op, cpu::kernels().two_stream_conv, cuda::two_stream_conv,
         std::min(slots, batch * stream_count), work, device, stream);
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
  m.def("cuda_architectures", sleeptools::cuda::architectures);
  m.def("cuda_devices", sleeptools::cuda::devices);

  m.def("threads", sleeptools::cpu::threads);

  m.def("modal_se", modal_se);
  m.def("feed_forward", feed_forward);
  m.def("feed_forward_workspace", sleeptools::FeedForward::workspace_floats);
  m.def("feed_forward_backward", feed_forward_backward);
  m.def("feed_forward_backward_workspace", sleeptools::FeedForwardBackward::workspace_floats);
  m.def("two_stream_conv", two_stream_conv);
  m.def("section_filter", section_filter);
  m.def("polyphase", polyphase);
}
