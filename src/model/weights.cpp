#include "model/weights.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <bit>
#include <cstdint>
#include <new>
#include <string>

#include "base/parallel.h"

namespace hone {
namespace {

constexpr std::array<const char*, matrix_kinds> tensor_names = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                                                "ffn_gate", "ffn_up", "ffn_down"};

// Without a branch a value: every weight is looked at, whenever a model is opened.
bool all_finite(std::span<const float> values) {
  constexpr uint32_t exponent = 0x7f800000;
  uint32_t odd = 0;
  for (const float value : values)
    odd |= static_cast<uint32_t>((std::bit_cast<uint32_t>(value) & exponent) == exponent);
  return odd == 0;
}

// Walks over everything that goes into the block. The first walk (no memory yet) measures, the second fills.
class Filler {
 public:
  Filler(const Gguf& file, Precision precision, std::byte* memory)
      : file_(file), precision_(precision), memory_(memory) {}

  size_t size() const { return used_; }

  std::span<const float> vector(const std::string& name, size_t length) {
    const std::array<size_t, 1> shape = {length};
    const GgufTensor& tensor = file_.tensor(name, shape);
    float* to = reserve<float>(length);
    if (memory_) {
      dequantize(tensor.type, tensor.bytes, {to, length});
      require_finite(tensor, {to, length});
    }
    return {to, length};
  }

  FrozenLinear linear(const std::string& name, size_t out, size_t in) {
    const std::array<size_t, 2> shape = {out, in};
    const GgufTensor& tensor = file_.tensor(name, shape);
    FrozenLinear layer;
    layer.out = out;
    layer.in = in;
    if (precision_ == Precision::fp32) {
      float* to = reserve<float>(out * in);
      if (memory_) read_rows(tensor, 0, {to, out, in});
      layer.f32 = to;
      return layer;
    }
    auto* i8 = reserve<int8_t>(out * in);
    auto* columns = reserve<int8_t>(out * in);
    float* scales = reserve<float>(out);
    auto* sums = reserve<int32_t>(out);
    auto* column_sums = reserve<int32_t>((out + backward_outputs - 1) / backward_outputs * in);
    if (memory_) {
      constexpr size_t block = 4096;
      Matrix rows = Matrix::uninitialized(std::min(out, block), in);
      for (size_t first = 0; first < out; first += block) {
        const MatrixView some{rows.data(), std::min(block, out - first), in};
        read_rows(tensor, first, some);
        quantize_weights(some, i8 + first * in, scales + first, sums + first);
      }
      transpose(i8, out, in, columns);
      sum_columns(columns, out, in, column_sums);
    }
    layer.int8 = {out, in, i8, columns, scales, sums, column_sums};
    return layer;
  }

 private:
  template <class T>
  T* reserve(size_t count) {
    constexpr size_t alignment = 64;
    const size_t at = used_;
    used_ += (count * sizeof(T) + alignment - 1) / alignment * alignment;
    return memory_ ? reinterpret_cast<T*>(memory_ + at) : nullptr;
  }

  void read_rows(const GgufTensor& tensor, size_t first, MatrixView to) const {
    const size_t row_bytes = tensor.bytes.size() / tensor.rows();
    parallel_ranges(to.rows, 16, [&](size_t begin, size_t end) {
      for (size_t row = begin; row < end; ++row) {
        dequantize(tensor.type, tensor.bytes.subspan((first + row) * row_bytes, row_bytes), to.row(row));
        require_finite(tensor, to.row(row));
      }
    });
  }

  void require_finite(const GgufTensor& tensor, std::span<const float> values) const {
    if (!all_finite(values))
      throw Error(ErrorCode::corrupt,
                  fmt::format("{}: tensor '{}' holds a value that is not finite", file_.path().string(), tensor.name));
  }

  const Gguf& file_;
  Precision precision_;
  std::byte* memory_;
  size_t used_ = 0;
};

void fill(Filler& filler, const Gguf& file, const Architecture& a, Weights& weights) {
  const ModelConfig& c = a.config;
  const auto width = static_cast<size_t>(c.width), ffn = static_cast<size_t>(c.ffn_width);
  const auto head_dim = static_cast<size_t>(c.head_dim);
  const size_t q = static_cast<size_t>(c.heads) * head_dim, kv = static_cast<size_t>(c.kv_heads) * head_dim;
  const std::array<std::array<size_t, 2>, matrix_kinds> shapes = {
      {{q, width}, {kv, width}, {kv, width}, {width, q}, {ffn, width}, {ffn, width}, {width, ffn}}};
  weights.layers.assign(static_cast<size_t>(c.layers), {});
  for (size_t l = 0; l < weights.layers.size(); ++l) {
    LayerWeights& layer = weights.layers[l];
    const std::string prefix = fmt::format("blk.{}.", l);
    for (size_t m = 0; m < shapes.size(); ++m) {
      const std::string name = prefix + tensor_names[m];
      layer.linear[m] = filler.linear(name + ".weight", shapes[m][0], shapes[m][1]);
      const bool has_bias = file.find_tensor(name + ".bias") != nullptr;
      if (has_bias || (a.qkv_bias && m < 3)) layer.linear[m].bias = filler.vector(name + ".bias", shapes[m][0]).data();
    }
    layer.attention_norm = filler.vector(prefix + "attn_norm.weight", width);
    layer.ffn_norm = filler.vector(prefix + "ffn_norm.weight", width);
    if (a.qk_norm) {
      layer.q_norm = filler.vector(prefix + "attn_q_norm.weight", head_dim);
      layer.k_norm = filler.vector(prefix + "attn_k_norm.weight", head_dim);
    }
    if (a.post_norms) {
      layer.attention_post_norm = filler.vector(prefix + "post_attention_norm.weight", width);
      layer.ffn_post_norm = filler.vector(prefix + "post_ffw_norm.weight", width);
    }
  }
  weights.output_norm = filler.vector("output_norm.weight", width);
  if (file.find_tensor("rope_freqs.weight")) weights.rope_factors = filler.vector("rope_freqs.weight", head_dim / 2);
  const char* head = file.find_tensor("output.weight") ? "output.weight" : "token_embd.weight";
  weights.head = filler.linear(head, static_cast<size_t>(c.vocabulary), width);
}

}  // namespace

Weights::Weights(const Gguf& file, const Architecture& architecture, Precision precision) {
  const ModelConfig& c = architecture.config;
  const int inputs = std::max({c.width, c.ffn_width, c.heads * c.head_dim});
  if (precision == Precision::int8 && static_cast<size_t>(inputs) >= most_int8_inputs)
    throw Error(ErrorCode::unsupported,
                fmt::format("{}: in int8 the sums of rows of {} weights have no room; open the model in fp32",
                            file.path().string(), inputs));
  Filler measure(file, precision, nullptr);
  fill(measure, file, architecture, *this);
  const size_t size = measure.size();
  void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) throw std::bad_alloc();
  memory_.data = static_cast<std::byte*>(address);
  memory_.size = size;
  // Every product walks through all of it: huge pages, where the system gives them, need few address translations.
  ::madvise(address, size, MADV_HUGEPAGE);
  Filler filler(file, precision, memory_.data);
  fill(filler, file, architecture, *this);
  if (::mprotect(memory_.data, memory_.size, PROT_READ) != 0)
    throw Error(ErrorCode::io, "cannot make the weights read-only (mprotect failed)");
}

Weights::Memory::~Memory() {
  if (data) ::munmap(data, size);
}

}  // namespace hone
