// Grams of all sequences' gradients, either from the gradients themselves or from products of activations and deltas.
#include <fmt/format.h>

#include <algorithm>

#include "base/parallel.h"
#include "hone/grams.h"
#include "model/columns.h"
#include "model/gathered_rows.h"
#include "model/gemm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/gram_sink.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

// After foreach_target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Σ_t ⟨a[rows[t]], b[t]⟩ over the rows of b; a and b have the same columns.
double SumOfRowProducts(ConstMatrixView a, std::span<const size_t> rows, ConstMatrixView b) {
  const hn::ScalableTag<float> d;
  double total = 0;
  for (size_t t = 0; t < b.rows; ++t) {
    const float *x = a.row(rows[t]).data(), *y = b.row(t).data();
    auto sum = hn::Zero(d);
    size_t i = 0;
    for (; i + hn::Lanes(d) <= b.cols; i += hn::Lanes(d))
      sum = hn::MulAdd(hn::LoadU(d, x + i), hn::LoadU(d, y + i), sum);
    total += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
    for (; i < b.cols; ++i) total += static_cast<double>(x[i] * y[i]);
  }
  return total;
}

}  // namespace hone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hone {

HWY_EXPORT(SumOfRowProducts);

namespace {

// Rows padded with zeros to whole vectors of 64 bytes.
size_t padded(size_t values) { return (values + 15) / 16 * 16; }

// x xᵀ [P, P] of x [P, depth]; one half is computed, the other mirrored.
Matrix self_products(ConstMatrixView x) {
  constexpr size_t strip = 48;
  Matrix result = Matrix::uninitialized(x.rows, x.rows);
  const PackedRows packed(x);
  parallel_for((x.rows + strip - 1) / strip, [&](size_t s) {
    const size_t first = s * strip, count = std::min(strip, x.rows - first);
    Matrix lower = Matrix::uninitialized(x.rows - first, count);
    linear_forward(packed, first, lower.rows(), x.row_range(first, count), lower);
    for (size_t r = 0; r < lower.rows(); ++r)
      for (size_t c = 0; c < count; ++c)
        result.row(first + r)[first + c] = result.row(first + c)[first + r] = lower.row(r)[c];
  });
  return result;
}

// Which matrices of a layer read the same inputs: all with the same result do.
MatrixId reader(MatrixId id) {
  if (id.kind == MatrixKind::k || id.kind == MatrixKind::v) return {id.layer, MatrixKind::q};
  if (id.kind == MatrixKind::up) return {id.layer, MatrixKind::gate};
  return id;
}

size_t rows_of(const LinearGradient& gradient, size_t b) {
  return gradient.sequence_start[b + 1] - gradient.sequence_start[b];
}

void add(Gram& gram, size_t i, size_t j, double value) {
  gram.values[i * gram.size + j] += value;
  if (i != j) gram.values[j * gram.size + i] += value;
}

}  // namespace

GramSink::GramSink(const Model& model, std::span<const BlockId> blocks, Way way) : way_(way) {
  for (const BlockId id : blocks) {
    std::vector<Block>& of_matrix = blocks_[id.matrix];
    if (std::ranges::find(of_matrix, id, &Block::id) != of_matrix.end())
      throw Error(ErrorCode::bad_input, fmt::format("block {} is named twice", name(id)));
    of_matrix.push_back({id, extent(model, id)});
  }
}

Gram GramSink::total() const {
  if (grams_.empty()) throw Error(ErrorCode::bad_input, "no backward pass has reached a block of the Grams");
  Gram sum{grams_.begin()->second.size, std::vector<double>(grams_.begin()->second.values.size())};
  for (const auto& [id, gram] : grams_)
    for (size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += gram.values[i];
  return sum;
}

void GramSink::accept(const LinearGradient& gradient) {
  if (reader(gradient.id) != inputs_of_) input_products_ = Matrix();
  inputs_of_ = reader(gradient.id);
  const auto found = blocks_.find(gradient.id);
  if (found == blocks_.end()) return;
  const size_t sequences = gradient.sequence_start.size() - 1;
  for (const Block& block : found->second) {
    Gram& gram = grams_[block.id];
    if (gram.values.empty()) gram = {sequences, std::vector<double>(sequences * sequences)};
    if (gram.size != sequences)
      throw Error(ErrorCode::bad_input,
                  fmt::format("a batch of {} sequences adds to Grams of {}; take a new sink", sequences, gram.size));
  }
  if (way_ == Way::dual || (way_ == Way::cheaper && prefers_dual(gradient, found->second)))
    dual(gradient, found->second);
  else
    materialised(gradient, found->second);
}

// Multiplications of the two ways, with Q gradient rows, P inputs and B sequences.
bool GramSink::prefers_dual(const LinearGradient& gradient, std::span<const Block> blocks) const {
  const auto q = static_cast<double>(gradient.output_gradients.rows), p = static_cast<double>(gradient.inputs.rows);
  const auto b = static_cast<double>(gradient.sequence_start.size() - 1);
  double in_dual = 0, materialised = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const BlockExtent& e = blocks[i].extent;
    const auto before = blocks.first(i);
    const auto same_out = [&](const Block& o) { return o.extent.first_out == e.first_out && o.extent.out == e.out; };
    const auto same_in = [&](const Block& o) { return o.extent.first_in == e.first_in && o.extent.in == e.in; };
    const auto out = static_cast<double>(e.out), in = static_cast<double>(e.in);
    in_dual += q * q / 2;
    if (std::ranges::none_of(before, same_out)) in_dual += q * q / 2 * out;
    if (std::ranges::none_of(before, same_in)) in_dual += p * p / 2 * in;
    materialised += q * out * in + b * b * out * in;
  }
  return in_dual < materialised;
}

void GramSink::materialised(const LinearGradient& gradient, std::span<const Block> blocks) {
  constexpr size_t held_values = size_t{1} << 22;  // of all sequences' gradients at a time
  const size_t sequences = gradient.sequence_start.size() - 1;
  const auto start = [&](size_t b) { return gradient.sequence_start[b]; };
  for (const auto& [id, extent] : blocks) {
    const BlockExtent& e = extent;
    Gram& gram = grams_.at(id);
    const Columns columns(gradient.inputs, e.first_in, e.in);
    const GatheredRows inputs(columns.view(), gradient.input_rows);
    const size_t step = std::clamp<size_t>(held_values / std::max<size_t>(1, sequences * e.in), 1, e.out);
    for (size_t first = 0; first < e.out; first += step) {
      const size_t count = std::min(step, e.out - first);
      const Columns deltas(gradient.output_gradients, e.first_out + first, count);
      Matrix gradients(sequences, count * e.in), products = Matrix::uninitialized(sequences, sequences);
      parallel_for(sequences, [&](size_t b) {
        if (const size_t rows = rows_of(gradient, b); rows > 0)
          linear_backward_weight(deltas.view().row_range(start(b), rows), inputs.view().row_range(start(b), rows),
                                 {gradients.row(b).data(), count, e.in});
      });
      linear_forward(gradients, gradients, products);
      for (size_t i = 0; i < sequences; ++i)
        for (size_t j = i; j < sequences; ++j) add(gram, i, j, static_cast<double>(products.row(i)[j]));
    }
  }
}

void GramSink::dual(const LinearGradient& gradient, std::span<const Block> blocks) {
  const size_t sequences = gradient.sequence_start.size() - 1, all = gradient.output_gradients.rows;
  std::vector<size_t> same(gradient.input_rows.empty() ? all : 0);
  for (size_t q = 0; q < same.size(); ++q) same[q] = q;
  const std::span<const size_t> input_rows =
      gradient.input_rows.empty() ? std::span<const size_t>(same) : gradient.input_rows;

  // a·a' of each range of columns that a block reads, and deltas of each range of rows that a block has.
  std::vector<Matrix> kept_products;
  std::map<std::pair<size_t, size_t>, const Matrix*> input_products;
  struct Deltas {
    Columns columns;
    PackedRows packed;
    std::vector<const Block*> blocks;
  };
  std::map<std::pair<size_t, size_t>, Deltas> deltas;
  kept_products.reserve(blocks.size());
  for (const Block& block : blocks) {
    const BlockExtent& e = block.extent;
    if (const auto [at, fresh] = input_products.try_emplace({e.first_in, e.in}); fresh) {
      const bool whole = e.in == gradient.inputs.cols;
      if (whole && input_products_.empty()) input_products_ = self_products(gradient.inputs);
      at->second = whole
                       ? &input_products_
                       : &kept_products.emplace_back(self_products(Columns(gradient.inputs, e.first_in, e.in).view()));
    }
    auto at = deltas.find({e.first_out, e.out});
    if (at == deltas.end()) {
      Columns columns(gradient.output_gradients, e.first_out, e.out);
      PackedRows packed(columns.view());
      at = deltas.emplace(std::pair(e.first_out, e.out), Deltas{std::move(columns), std::move(packed), {}}).first;
    }
    at->second.blocks.push_back(&block);
  }

  // Sequence b against itself and all later ones.
  parallel_for(sequences, [&](size_t b) {
    const size_t first = gradient.sequence_start[b], rows = rows_of(gradient, b), width = padded(rows);
    if (rows == 0) return;
    for (const auto& [range, of_range] : deltas) {
      Matrix delta_products(all - first, width);  // [t'][t] = δ_t'·δ_t for t in b
      linear_forward(of_range.packed, first, all - first, of_range.columns.view().row_range(first, rows),
                     delta_products);
      for (const Block* block : of_range.blocks) {
        const Matrix& products = *input_products.at({block->extent.first_in, block->extent.in});
        Matrix own(products.rows(), width);  // [p][t] = a_p·a_t for t in b
        for (size_t p = 0; p < products.rows(); ++p)
          for (size_t t = 0; t < rows; ++t) own.row(p)[t] = products.row(p)[input_rows[first + t]];
        for (size_t c = b; c < sequences; ++c) {
          const size_t begin = gradient.sequence_start[c], count = rows_of(gradient, c);
          const double sum = HWY_DYNAMIC_DISPATCH(SumOfRowProducts)(
              own, input_rows.subspan(begin, count), delta_products.view().row_range(begin - first, count));
          add(grams_.at(block->id), b, c, sum);
        }
      }
    }
  });
}

}  // namespace hone
#endif
