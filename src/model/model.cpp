#include "hone/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/files.h"
#include "base/parallel.h"
#include "model/gguf_tokenizer.h"
#include "model/model_impl.h"

namespace hone {
namespace {

// How many logits are held at a time.
constexpr size_t logit_values = size_t{1} << 23;

}  // namespace

Model::Impl::Impl(Gguf gguf) : file(std::move(gguf)), architecture(read_architecture(file)) {
  tokenizer = read_tokenizer(file);
  embedding = file.find_tensor("token_embd.weight");
  const auto width = static_cast<size_t>(architecture.config.width);
  if (!embedding || embedding->shape.size() != 2 || embedding->cols() != width || embedding->rows() > (1u << 30))
    throw Error(ErrorCode::corrupt, fmt::format("{}: tensor 'token_embd.weight' is missing or not [vocabulary, {}]",
                                                file.path().string(), width));
  if (embedding->rows() < tokenizer->vocabulary_size())
    throw Error(ErrorCode::corrupt, fmt::format("{}: 'token_embd.weight' has {} rows for a vocabulary of {} tokens",
                                                file.path().string(), embedding->rows(), tokenizer->vocabulary_size()));
  architecture.config.vocabulary = static_cast<int>(embedding->rows());
}

AttentionShape Model::Impl::attention_shape(int layer) const {
  const ModelConfig& c = architecture.config;
  return {.heads = static_cast<size_t>(c.heads),
          .kv_heads = static_cast<size_t>(c.kv_heads),
          .head_dim = static_cast<size_t>(c.head_dim),
          .scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim)),
          .window = architecture.is_local(layer) ? architecture.window : 0};
}

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::~Model() = default;

std::shared_ptr<const Model> Model::open(const std::filesystem::path& gguf, const ModelOptions& options) {
  auto impl = std::make_unique<Impl>(Gguf::open(gguf));
  impl->precision = options.precision;
  impl->weights = std::make_unique<const Weights>(impl->file, impl->architecture, options.precision);
  impl->base_hash = content_hash(impl->file.bytes());
  impl->file.drop_pages();
  return std::shared_ptr<const Model>(new Model(std::move(impl)));
}

const ModelConfig& Model::config() const { return impl_->architecture.config; }
const Tokenizer& Model::tokenizer() const { return *impl_->tokenizer; }
Precision Model::precision() const { return impl_->precision; }
const std::string& Model::base_hash() const { return impl_->base_hash; }
std::string Model::hash_weights() const {
  return content_hash(content_hash(impl_->weights->bytes()) + content_hash(impl_->embedding->bytes));
}
std::span<const std::byte> Model::weights() const { return impl_->weights->bytes(); }

std::pair<size_t, size_t> Model::shape(MatrixId id) const {
  if (id.layer < 0 || id.layer >= config().layers)
    throw Error(ErrorCode::bad_input, fmt::format("{}: the model has {} layers", hone::name(id), config().layers));
  const FrozenLinear& linear = impl_->linear(id);
  return {linear.out, linear.in};
}

std::vector<Token> Model::encode(std::string_view text, bool special) const {
  std::vector<Token> tokens = tokenizer().encode(text, special);
  if (tokenizer().adds_bos() && tokenizer().bos() >= 0) tokens.insert(tokens.begin(), tokenizer().bos());
  return tokens;
}

Matrix Model::embed(std::span<const Sequence> batch) const {
  const GgufTensor& table = *impl_->embedding;
  const size_t row_bytes = table.bytes.size() / table.rows();
  Matrix x = Matrix::uninitialized(BatchRows(batch).start.back(), table.cols());
  size_t row = 0;
  for (const Sequence& sequence : batch)
    for (const Token token : sequence.tokens.subspan(sequence.shared)) {
      if (token < 0 || static_cast<size_t>(token) >= table.rows())
        throw Error(ErrorCode::bad_input, fmt::format("token {} is outside the vocabulary of {}", token, table.rows()));
      dequantize(table.type, table.bytes.subspan(static_cast<size_t>(token) * row_bytes, row_bytes), x.row(row));
      for (float& value : x.row(row)) value *= impl_->architecture.embedding_scale;
      if (!std::ranges::all_of(x.row(row), [](float value) { return std::isfinite(value); }))
        throw Error(ErrorCode::corrupt,
                    fmt::format("{}: tensor '{}' holds a value that is not finite in the row of token {}",
                                impl_->file.path().string(), table.name, token));
      ++row;
    }
  return x;
}

void Model::Impl::check_hidden(ConstMatrixView hidden) const {
  if (hidden.cols != static_cast<size_t>(architecture.config.width))
    throw Error(ErrorCode::bad_input, fmt::format("rows of {} values; the model's last layer has {}", hidden.cols,
                                                  architecture.config.width));
}

Matrix Model::logits(ConstMatrixView hidden) const {
  impl_->check_hidden(hidden);
  Matrix normed = Matrix::uninitialized(hidden.rows, hidden.cols);
  rms_norm(hidden, impl_->weights->output_norm, impl_->architecture.norm_eps, normed);
  Matrix out = Matrix::uninitialized(hidden.rows, impl_->weights->head.out);
  LinearInput(normed.view()).forward(impl_->weights->head, out);
  return out;
}

namespace {

// Calls body(first row, logits of the block) for blocks of rows.
template <class Body>
void for_logit_blocks(const Model& model, ConstMatrixView hidden, std::span<const Token> targets, const Body& body) {
  if (targets.size() != hidden.rows)
    throw Error(ErrorCode::bad_input, fmt::format("{} targets for {} rows", targets.size(), hidden.rows));
  const auto vocabulary = static_cast<size_t>(model.config().vocabulary);
  for (const Token target : targets)
    if (target < 0 || static_cast<size_t>(target) >= vocabulary)
      throw Error(ErrorCode::bad_input, fmt::format("token {} is outside the vocabulary of {}", target, vocabulary));
  constexpr size_t tile = 48, least = 2 * tile;  // fewer rows would read a large vocabulary's weights too often
  const size_t block = std::max(least, logit_values / vocabulary / tile * tile);
  for (size_t first = 0; first < hidden.rows; first += block) {
    Matrix logits = model.logits(hidden.row_range(first, std::min(block, hidden.rows - first)));
    body(first, logits);
  }
}

}  // namespace

std::vector<float> Model::losses(ConstMatrixView hidden, std::span<const Token> targets) const {
  std::vector<float> result(hidden.rows);
  for_logit_blocks(*this, hidden, targets, [&](size_t first, const Matrix& logits) {
    parallel_ranges(logits.rows(), 1, [&](size_t begin, size_t end) {
      for (size_t r = begin; r < end; ++r)
        result[first + r] = log_sum_exp(logits.row(r)) - logits.row(r)[static_cast<size_t>(targets[first + r])];
    });
  });
  return result;
}

std::vector<float> Model::losses_with_gradient(ConstMatrixView hidden, std::span<const Token> targets,
                                               std::span<const float> weights, MatrixView d_hidden,
                                               Precision products) const {
  if (weights.size() != hidden.rows || d_hidden.rows != hidden.rows || d_hidden.cols != hidden.cols)
    throw Error(ErrorCode::bad_input, "weights and d_hidden must have a row for each row of hidden");
  std::vector<float> result(hidden.rows);
  for_logit_blocks(*this, hidden, targets, [&](size_t first, Matrix& logits) {
    parallel_ranges(logits.rows(), 1, [&](size_t begin, size_t end) {
      for (size_t r = begin; r < end; ++r) {
        const auto target = static_cast<size_t>(targets[first + r]);
        const float normalizer = log_sum_exp(logits.row(r));
        result[first + r] = normalizer - logits.row(r)[target];
        cross_entropy_gradient(logits.row(r), normalizer, target, weights[first + r]);
      }
    });
    const Matrix d = head_backward(hidden.row_range(first, logits.rows()), logits, products);
    std::copy_n(d.data(), d.size(), d_hidden.row(first).data());
  });
  return result;
}

Matrix Model::head_backward(ConstMatrixView hidden, ConstMatrixView d_logits, Precision products) const {
  impl_->check_hidden(hidden);
  if (d_logits.rows != hidden.rows || d_logits.cols != impl_->weights->head.out)
    throw Error(ErrorCode::bad_input, fmt::format("a gradient of [{}, {}] does not fit {} rows of {} logits",
                                                  d_logits.rows, d_logits.cols, hidden.rows, impl_->weights->head.out));
  Matrix d_normed = Matrix::uninitialized(hidden.rows, hidden.cols);
  backward_input(impl_->weights->head, d_logits, d_normed, products);
  rms_norm_backward(hidden, impl_->weights->output_norm, impl_->architecture.norm_eps, d_normed, d_normed, false);
  return d_normed;
}

}  // namespace hone
