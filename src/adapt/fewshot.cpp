// Leave-one-out prompts, and readouts of a batch with their gradients.
#include "hone/fewshot.h"

#include <fmt/format.h>

#include <algorithm>

namespace hone {

std::vector<std::vector<Token>> leave_one_out_prompts(std::span<const Token> start, std::span<const Example> examples,
                                                      std::span<const Token> query) {
  const auto prompt = [&](size_t left_out, std::span<const Token> end) {
    std::vector<Token> tokens(start.begin(), start.end());
    for (size_t i = 0; i < examples.size(); ++i) {
      if (i == left_out) continue;
      tokens.insert(tokens.end(), examples[i].input.begin(), examples[i].input.end());
      tokens.insert(tokens.end(), examples[i].label.begin(), examples[i].label.end());
    }
    tokens.insert(tokens.end(), end.begin(), end.end());
    return tokens;
  };
  std::vector<std::vector<Token>> prompts{prompt(examples.size(), query)};
  for (size_t i = 0; i < examples.size(); ++i) prompts.push_back(prompt(i, examples[i].input));
  return prompts;
}

namespace {

void check_batch(std::span<const Sequence> batch, std::span<const Readout> readouts) {
  if (readouts.size() != batch.size() && readouts.size() != 1)
    throw Error(ErrorCode::bad_input, fmt::format("{} readouts for {} sequences; give one, or one a sequence",
                                                  readouts.size(), batch.size()));
  for (size_t b = 0; b < batch.size(); ++b)
    if (batch[b].tokens.empty())
      throw Error(ErrorCode::bad_input, fmt::format("sequence {} is empty: there is no position to read off", b));
}

// The readouts of rows last[b] of `hidden`; ∂/∂(that row) goes to row b of d_last [B, D] where it is given.
std::vector<double> read_off(const Model& model, ConstMatrixView hidden, std::span<const size_t> last,
                             std::span<const Readout> readouts, Matrix* d_last) {
  std::vector<double> values(last.size());
  // Neighbouring sequences with the same labels are read together.
  for (size_t begin = 0, end = 0; begin < last.size(); begin = end) {
    const auto readout = [&](size_t b) -> const Readout& { return readouts[readouts.size() == 1 ? 0 : b]; };
    const std::span<const Token> labels = readout(begin).labels();
    while (end < last.size() && std::ranges::equal(readout(end).labels(), labels)) ++end;
    Matrix rows = Matrix::uninitialized(end - begin, hidden.cols);
    for (size_t b = begin; b < end; ++b) std::ranges::copy(hidden.row(last[b]), rows.row(b - begin).begin());
    const Matrix logits = model.logits(rows, labels);
    Matrix d_logits = Matrix::uninitialized(logits.rows(), logits.cols());
    for (size_t b = begin; b < end; ++b) values[b] = readout(b).value(logits.row(b - begin), d_logits.row(b - begin));
    if (!d_last) continue;
    const Matrix d_rows = model.head_backward(rows, d_logits, labels);
    std::copy_n(d_rows.data(), d_rows.size(), d_last->row(begin).data());
  }
  return values;
}

std::vector<size_t> last_rows(const BatchRows& rows) {
  std::vector<size_t> last;
  for (size_t b = 0; b + 1 < rows.start.size(); ++b) last.push_back(rows.last_activation_row(b));
  return last;
}

}  // namespace

std::vector<double> readout_gradients(const Model& model, std::span<const Sequence> batch, int first_layer,
                                      std::span<const Readout> readouts, std::span<GradientSink* const> sinks,
                                      const CancelToken& cancel) {
  const int layers = model.config().layers;
  if (first_layer < 0 || first_layer >= layers)
    throw Error(ErrorCode::bad_input,
                fmt::format("layer {} does not exist; the model has layers 0 to {}", first_layer, layers - 1));
  check_batch(batch, readouts);
  Tape tape;
  Matrix hidden = model.forward(batch, 0, first_layer, model.embed(batch), nullptr, cancel);
  hidden = model.forward(batch, first_layer, layers, std::move(hidden), &tape, cancel);
  const BatchRows rows(batch);
  Matrix d_last(batch.size(), hidden.cols()), d_hidden(rows.activation.size(), hidden.cols());
  std::vector<double> values = read_off(model, hidden, last_rows(rows), readouts, &d_last);
  for (size_t b = 0; b < batch.size(); ++b)
    std::ranges::copy(d_last.row(b), d_hidden.row(rows.last_gradient_row(b)).begin());
  model.backward(tape, std::move(d_hidden), sinks, cancel);
  return values;
}

std::vector<double> readout_values(const Model& model, std::span<const Sequence> batch,
                                   std::span<const Readout> readouts, const CancelToken& cancel) {
  check_batch(batch, readouts);
  const Matrix hidden = model.forward(batch, 0, model.config().layers, model.embed(batch), nullptr, cancel);
  return read_off(model, hidden, last_rows(BatchRows(batch)), readouts, nullptr);
}

}  // namespace hone
