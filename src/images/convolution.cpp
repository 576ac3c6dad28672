#include "images/convolution.h"

#include <fmt/format.h>

#include <dnnl.hpp>
#include <unordered_map>

#include "images/one_thread.h"

namespace hone {
namespace {

using dnnl::memory;
using Arguments = std::unordered_map<int, memory>;

template <class Work>
auto with_one_thread(const Work& work) {
  const OneThread one;
  try {
    return work();
  } catch (const dnnl::error& error) {
    throw Error(ErrorCode::unsupported, fmt::format("oneDNN cannot compute this convolution here: {} (status {})",
                                                    error.what(), static_cast<int>(error.status)));
  }
}

memory::desc describe(std::initializer_list<size_t> sizes, memory::format_tag tag) {
  return {memory::dims(sizes.begin(), sizes.end()), memory::data_type::f32, tag};
}

}  // namespace

struct Convolution::Primitives {
  explicit Primitives(const ConvolutionShape& s)
      : x_desc(describe({s.images, s.in_channels, s.rows, s.cols}, memory::format_tag::nhwc)),
        y_desc(describe({s.images, s.out_channels, s.out_rows(), s.out_cols()}, memory::format_tag::nhwc)),
        w_desc(describe({s.out_channels, s.in_channels, s.kernel, s.kernel}, memory::format_tag::oihw)),
        b_desc(describe({s.out_channels}, memory::format_tag::a)) {
    using namespace dnnl;
    const memory::desc w_any(w_desc.dims(), memory::data_type::f32, memory::format_tag::any);
    const memory::dims one = {1, 1}, none = {0, 0};
    const auto direct = algorithm::convolution_direct;
    primitive_attr attributes;
    attributes.set_scratchpad_mode(scratchpad_mode::user);
    const convolution_forward::primitive_desc forward_desc(
        {prop_kind::forward_training, direct, x_desc, w_any, b_desc, y_desc, one, none, none}, attributes, cpu);
    const convolution_backward_weights::primitive_desc weights_desc(
        {direct, x_desc, w_any, b_desc, y_desc, one, none, none}, attributes, cpu, forward_desc);
    const convolution_backward_data::primitive_desc input_desc({direct, x_desc, w_any, y_desc, one, none, none},
                                                               attributes, cpu, forward_desc);
    forward = convolution_forward(forward_desc);
    backward_weights = convolution_backward_weights(weights_desc);
    backward_input = convolution_backward_data(input_desc);
    forward_w = memory(forward_desc.weights_desc(), cpu);
    input_w = memory(input_desc.weights_desc(), cpu);
    dw = memory(weights_desc.diff_weights_desc(), cpu);
    forward_scratch = memory(forward_desc.scratchpad_desc(), cpu);
    weights_scratch = memory(weights_desc.scratchpad_desc(), cpu);
    input_scratch = memory(input_desc.scratchpad_desc(), cpu);
  }

  // oneDNN only writes to what is named DST or DIFF.
  memory view(const memory::desc& desc, const float* values) const { return {desc, cpu, const_cast<float*>(values)}; }

  void copy(memory from, memory to) { dnnl::reorder(from, to).execute(stream, from, to); }

  dnnl::engine cpu{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{cpu};
  memory::desc x_desc, y_desc, w_desc, b_desc;
  dnnl::convolution_forward forward;
  dnnl::convolution_backward_weights backward_weights;
  dnnl::convolution_backward_data backward_input;
  memory forward_w, input_w, dw;  // in the layouts that oneDNN chose
  memory forward_scratch, weights_scratch, input_scratch;
};

Convolution::Convolution(const ConvolutionShape& shape)
    : primitives_(with_one_thread([&] { return std::make_unique<Primitives>(shape); })) {}
Convolution::Convolution(Convolution&&) noexcept = default;
Convolution::~Convolution() = default;

void Convolution::forward(const float* x, const float* w, const float* b, float* y) {
  with_one_thread([&] {
    Primitives& p = *primitives_;
    p.copy(p.view(p.w_desc, w), p.forward_w);
    p.forward.execute(p.stream, {{DNNL_ARG_SRC, p.view(p.x_desc, x)},
                                 {DNNL_ARG_WEIGHTS, p.forward_w},
                                 {DNNL_ARG_BIAS, p.view(p.b_desc, b)},
                                 {DNNL_ARG_DST, p.view(p.y_desc, y)},
                                 {DNNL_ARG_SCRATCHPAD, p.forward_scratch}});
    p.stream.wait();
  });
}

void Convolution::backward_weights(const float* x, const float* dy, float* dw, float* db) {
  with_one_thread([&] {
    Primitives& p = *primitives_;
    p.backward_weights.execute(p.stream, {{DNNL_ARG_SRC, p.view(p.x_desc, x)},
                                          {DNNL_ARG_DIFF_DST, p.view(p.y_desc, dy)},
                                          {DNNL_ARG_DIFF_WEIGHTS, p.dw},
                                          {DNNL_ARG_DIFF_BIAS, p.view(p.b_desc, db)},
                                          {DNNL_ARG_SCRATCHPAD, p.weights_scratch}});
    p.copy(p.dw, p.view(p.w_desc, dw));
    p.stream.wait();
  });
}

void Convolution::backward_input(const float* dy, const float* w, float* dx) {
  with_one_thread([&] {
    Primitives& p = *primitives_;
    p.copy(p.view(p.w_desc, w), p.input_w);
    p.backward_input.execute(p.stream, {{DNNL_ARG_DIFF_DST, p.view(p.y_desc, dy)},
                                        {DNNL_ARG_WEIGHTS, p.input_w},
                                        {DNNL_ARG_DIFF_SRC, p.view(p.x_desc, dx)},
                                        {DNNL_ARG_SCRATCHPAD, p.input_scratch}});
    p.stream.wait();
  });
}

}  // namespace hone
