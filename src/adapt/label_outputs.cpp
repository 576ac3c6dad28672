#include "adapt/label_outputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace hone {
namespace {

// Helmert's contrasts, times √2: row k compares label k + 1 with the mean of those before it.
decide::Matrix64 helmert(size_t classes) {
  decide::Matrix64 b(classes - 1, classes);
  for (size_t k = 0; k + 1 < classes; ++k) {
    const auto before = static_cast<double>(k + 1);
    const double scale = std::sqrt(2 / (before * (before + 1)));
    for (size_t c = 0; c <= k; ++c) b(k, c) = scale;
    b(k, k + 1) = -scale * before;
  }
  return b;
}

std::vector<double> normalized(std::vector<double> log_p) {
  const double largest = *std::ranges::max_element(log_p);
  double sum = 0;
  for (const double l : log_p) sum += std::exp(l - largest);
  for (double& l : log_p) l -= largest + std::log(sum);
  return log_p;
}

}  // namespace

LabelOutputs LabelOutputs::contrasts(std::vector<std::vector<Token>> labels) {
  LabelOutputs result;
  result.labels_ = std::move(labels);
  result.contrasts_ = helmert(result.labels_.size());
  return result;
}

LabelOutputs LabelOutputs::expected_value(std::vector<std::vector<Token>> labels, std::vector<double> values) {
  LabelOutputs result;
  result.labels_ = std::move(labels);
  result.values_ = std::move(values);
  return result;
}

bool LabelOutputs::one_position() const {
  return std::ranges::all_of(labels_, [](const auto& label) { return label.size() == 1; });
}

std::vector<double> LabelOutputs::values(std::span<const double> log_p) const {
  std::vector<double> f(outputs());
  for (size_t c = 0; c < classes(); ++c) {
    if (!values_.empty()) f[0] += values_[c] * std::exp(log_p[c]);
    for (size_t o = 0; values_.empty() && o < f.size(); ++o) f[o] += contrasts_(o, c) * log_p[c];
  }
  return f;
}

// ∂ŷ/∂log p_c = p_c (v_c − ŷ) for log-probabilities before they are normalised over labels.
decide::Matrix64 LabelOutputs::jacobian(std::span<const double> log_p) const {
  if (values_.empty()) return contrasts_;
  decide::Matrix64 j(1, classes());
  const double mean = values(log_p)[0];
  for (size_t c = 0; c < classes(); ++c) j(0, c) = std::exp(log_p[c]) * (values_[c] - mean);
  return j;
}

std::vector<double> LabelOutputs::targets(size_t label) const {
  if (!values_.empty()) return {values_[label]};
  std::vector<double> t(outputs());
  for (size_t o = 0; o < t.size(); ++o) t[o] = contrasts_(o, label);
  return t;
}

std::vector<double> LabelOutputs::log_probabilities(std::span<const double> f) const {
  std::vector<double> log_p(classes());
  for (size_t c = 0; c < classes(); ++c)
    for (size_t o = 0; o < f.size(); ++o) log_p[c] += contrasts_(o, c) * f[o] / 2;
  return normalized(std::move(log_p));
}

namespace {

// The sequences of one pass. All labels at one position: each prompt as often as it has outputs, or once without
// gradients. Otherwise each prompt with every label behind it, its last token left out.
struct Pass {
  std::vector<std::vector<Token>> texts;
  std::vector<Sequence> batch;
  size_t per_prompt = 1;
};

Pass pass_over(const LabelOutputs& labels, std::span<const std::vector<Token>> prompts, const Adapter* adapter,
               bool gradients) {
  Pass pass;
  pass.per_prompt = !labels.one_position() ? labels.classes() : gradients ? labels.outputs() : 1;
  for (const std::vector<Token>& prompt : prompts)
    for (size_t s = 0; s < pass.per_prompt; ++s) {
      std::vector<Token>& text = pass.texts.emplace_back(prompt);
      if (!labels.one_position()) text.insert(text.end(), labels.labels()[s].begin(), labels.labels()[s].end() - 1);
    }
  for (const std::vector<Token>& text : pass.texts) pass.batch.push_back({.tokens = text, .adapter = adapter});
  share_prefixes(pass.batch);
  return pass;
}

// log p of every label after every prompt, normalised over labels, and where ∂f/∂(last layer's output) is wanted its
// rows: of outputs with all labels at one position, else of the labels' log-probabilities.
decide::Matrix64 read_off(const Model& model, const LabelOutputs& labels, const Pass& pass, const BatchRows& rows,
                          std::span<const std::vector<Token>> prompts, ConstMatrixView hidden, Matrix* d_hidden) {
  const size_t classes = labels.classes();
  decide::Matrix64 log_p(prompts.size(), classes);
  const auto row_of = [&](size_t sequence, size_t position) { return rows.gradient_start[sequence] + position; };
  std::vector<Token> first_tokens;
  for (const auto& label : labels.labels()) first_tokens.push_back(label.front());
  for (size_t p = 0; p < prompts.size(); ++p) {
    const size_t sequence = p * pass.per_prompt, last = prompts[p].size() - 1;
    std::vector<double> found(classes);
    if (labels.one_position()) {
      const ConstMatrixView row = hidden.row_range(rows.activation[row_of(sequence, last)], 1);
      const Matrix z = model.logits(row, first_tokens);
      std::ranges::copy(z.row(0), found.begin());
    } else {
      for (size_t c = 0; c < classes; ++c) {
        const std::vector<Token>& label = labels.labels()[c];
        Matrix at = Matrix::uninitialized(label.size(), hidden.cols), d_at(label.size(), hidden.cols);
        for (size_t k = 0; k < label.size(); ++k)
          std::ranges::copy(hidden.row(rows.activation[row_of(sequence + c, last + k)]), at.row(k).begin());
        const std::vector<float> minus(label.size(), -1.0F);
        const std::vector<float> losses =
            d_hidden ? model.losses_with_gradient(at, label, minus, d_at) : model.losses(at, label);
        for (size_t k = 0; k < label.size(); ++k) {
          found[c] -= static_cast<double>(losses[k]);
          if (d_hidden) std::ranges::copy(d_at.row(k), d_hidden->row(row_of(sequence + c, last + k)).begin());
        }
      }
    }
    if (!std::ranges::all_of(found, [](double l) { return std::isfinite(l); }))
      throw Error(ErrorCode::bad_input, "the model answers a prompt with numbers that are not finite");
    std::ranges::copy(normalized(std::move(found)), log_p.row(p).begin());
    if (!d_hidden || !labels.one_position()) continue;
    const decide::Matrix64 jacobian = labels.jacobian(log_p.row(p));
    const ConstMatrixView row = hidden.row_range(rows.activation[row_of(sequence, last)], 1);
    for (size_t o = 0; o < jacobian.rows; ++o) {
      Matrix d_z(1, classes);
      for (size_t c = 0; c < classes; ++c) d_z.row(0)[c] = static_cast<float>(jacobian(o, c));
      const Matrix d_row = model.head_backward(row, d_z, first_tokens);
      std::ranges::copy(d_row.row(0), d_hidden->row(row_of(sequence + o, last)).begin());
    }
  }
  return log_p;
}

// Rows of outputs from those of the pass's sequences.
void fold(const LabelOutputs& labels, const decide::Matrix64& log_p, const Matrix& of_sequences, Matrix& gradients,
          size_t first_row) {
  const size_t outputs = labels.outputs(), classes = labels.classes();
  for (size_t p = 0; p < log_p.rows; ++p) {
    const decide::Matrix64 jacobian = labels.jacobian(log_p.row(p));
    for (size_t o = 0; o < outputs; ++o) {
      const std::span<float> row = gradients.row(first_row + p * outputs + o);
      if (labels.one_position()) {
        std::ranges::copy(of_sequences.row(p * outputs + o), row.begin());
        continue;
      }
      std::ranges::fill(row, 0.0F);
      for (size_t c = 0; c < classes; ++c) {
        const std::span<const float> of_label = of_sequences.row(p * classes + c);
        const auto weight = static_cast<float>(jacobian(o, c));
        for (size_t i = 0; i < row.size(); ++i) row[i] += weight * of_label[i];
      }
    }
  }
}

}  // namespace

LabelReadings read_labels(const Model& model, const LabelOutputs& labels, std::span<const std::vector<Token>> prompts,
                          const Adapter* adapter, const LowerLayers& lower, std::span<const BlockId> blocks,
                          std::span<Matrix> gradients, size_t first_row, const CancelToken& cancel) {
  const bool wanted = !gradients.empty();
  const Pass pass = pass_over(labels, prompts, adapter, wanted);
  const BatchRows rows(pass.batch);
  BlockGradientSink sink(model, blocks);
  const int first = sink.first_layer(), layers = model.config().layers;
  Tape tape;
  const Matrix hidden = model.forward(pass.batch, first, layers, lower(pass.batch), wanted ? &tape : nullptr, cancel);
  LabelReadings readings;
  Matrix d_hidden = wanted ? Matrix(rows.activation.size(), hidden.cols()) : Matrix();
  readings.log_p = read_off(model, labels, pass, rows, prompts, hidden, wanted ? &d_hidden : nullptr);
  readings.outputs = decide::Matrix64(prompts.size(), labels.outputs());
  for (size_t p = 0; p < prompts.size(); ++p)
    std::ranges::copy(labels.values(readings.log_p.row(p)), readings.outputs.row(p).begin());
  if (!wanted) return readings;
  GradientSink* const sinks[] = {&sink};
  model.backward(tape, std::move(d_hidden), sinks, cancel);
  for (size_t b = 0; b < blocks.size(); ++b) fold(labels, readings.log_p, sink.gradients()[b], gradients[b], first_row);
  return readings;
}

LabelTangents read_label_tangents(const Model& model, const LabelOutputs& labels, std::span<const Token> tail,
                                  const TangentReader& reader, const CancelToken& cancel) {
  const std::vector<Token> prompt(tail.begin(), tail.end());
  const std::span<const std::vector<Token>> prompts(&prompt, 1);
  const Pass pass = pass_over(labels, prompts, nullptr, true);
  const BatchRows rows(pass.batch);
  const Tangents hidden = reader.read(pass.batch, cancel);
  Matrix d_hidden(rows.activation.size(), hidden.value.cols());
  LabelTangents result;
  result.readings.log_p = read_off(model, labels, pass, rows, prompts, hidden.value, &d_hidden);
  result.readings.outputs = decide::Matrix64(1, labels.outputs());
  result.readings.outputs.values = labels.values(result.readings.log_p.row(0));

  // Of what each sequence reads: an output, or a label's log-probability.
  decide::Matrix64 along(pass.batch.size(), reader.directions());
  for (size_t s = 0; s < along.rows; ++s)
    for (size_t q = rows.gradient_start[s] + prompt.size() - 1; q < rows.gradient_start[s + 1]; ++q)
      for (size_t r = 0; r < along.cols; ++r) {
        const std::span<const float> moved = hidden.derivatives.row(r * hidden.value.rows() + rows.activation[q]);
        for (size_t i = 0; i < moved.size(); ++i)
          along(s, r) += static_cast<double>(d_hidden.row(q)[i]) * static_cast<double>(moved[i]);
      }
  if (labels.one_position()) {
    result.derivatives = std::move(along);
    return result;
  }
  const decide::Matrix64 jacobian = labels.jacobian(result.readings.log_p.row(0));
  result.derivatives = decide::Matrix64(labels.outputs(), along.cols);
  for (size_t o = 0; o < jacobian.rows; ++o)
    for (size_t c = 0; c < jacobian.cols; ++c)
      for (size_t r = 0; r < along.cols; ++r) result.derivatives(o, r) += jacobian(o, c) * along(c, r);
  return result;
}

}  // namespace hone
