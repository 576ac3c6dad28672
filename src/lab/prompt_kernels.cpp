// Several prompts in one pass; each has Grams of its own.
#include "lab/prompt_kernels.h"

#include <fmt/format.h>

#include <algorithm>

namespace hone::lab {

std::vector<double> PromptKernels::residuals(std::span<const double> targets) const {
  if (targets.size() != left_out.size())
    throw Error(ErrorCode::bad_input, fmt::format("{} targets for {} examples", targets.size(), left_out.size()));
  std::vector<double> r(targets.begin(), targets.end());
  for (size_t i = 0; i < r.size(); ++i) r[i] -= left_out[i];
  return r;
}

void PartOfBatch::accept(const LinearGradient& gradient) {
  const std::span<const size_t> starts = gradient.sequence_start.subspan(first_, count_ + 1);
  const size_t first_row = starts.front(), rows = starts.back() - first_row;
  std::vector<size_t> own_starts(starts.begin(), starts.end()), own_inputs;
  for (size_t& start : own_starts) start -= first_row;
  size_t first_input = first_row, inputs = rows;
  if (!gradient.input_rows.empty() && rows > 0) {
    const std::span<const size_t> of_rows = gradient.input_rows.subspan(first_row, rows);
    const auto [lowest, highest] = std::ranges::minmax_element(of_rows);
    first_input = *lowest;
    inputs = *highest - *lowest + 1;
    for (const size_t row : of_rows) own_inputs.push_back(row - first_input);
  }
  to_.accept({gradient.id, gradient.inputs.row_range(first_input, inputs),
              gradient.output_gradients.row_range(first_row, rows), own_inputs, own_starts});
}

std::vector<BlockId> value_blocks(const Model& model, int layers) {
  const MatrixKind only[] = {MatrixKind::v};
  return blocks_of(model, std::max(0, model.config().layers - layers), only);
}

std::vector<BlockId> at_least_value_blocks(const Model& model, int count) {
  return value_blocks(model, (count + model.config().kv_heads - 1) / model.config().kv_heads);
}

std::vector<int> layers_of(std::span<const BlockId> blocks) {
  std::vector<int> layers;
  layers.reserve(blocks.size());
  for (const BlockId& block : blocks) layers.push_back(block.matrix.layer);
  return layers;
}

std::vector<PromptKernels> prompt_kernels(const Model& model, std::span<const LabelledPrompt> prompts,
                                          std::span<const BlockId> blocks, const Readout& readout,
                                          const CancelToken& cancel) {
  if (blocks.empty() || prompts.empty())
    throw Error(ErrorCode::bad_input, "kernels need at least one prompt and one block");
  std::vector<std::vector<std::vector<Token>>> texts;
  for (const LabelledPrompt& prompt : prompts) {
    if (prompt.examples.empty()) throw Error(ErrorCode::bad_input, "a prompt without examples has no kernel");
    texts.push_back(prompt.texts());
  }
  std::vector<Sequence> batch;
  std::vector<GramSink> grams;
  std::vector<PartOfBatch> parts;
  grams.reserve(texts.size());
  parts.reserve(texts.size());
  for (const auto& of_prompt : texts) {
    const size_t first = batch.size();
    parts.emplace_back(grams.emplace_back(model, blocks), first, of_prompt.size());
    for (const std::vector<Token>& text : of_prompt) batch.push_back({.tokens = text});
    const std::span<Sequence> own = std::span(batch).subspan(first);
    share_prefixes(own);
    for (Sequence& sequence : own) sequence.prefix += first;
  }
  std::vector<GradientSink*> sinks;
  sinks.reserve(parts.size());
  for (PartOfBatch& part : parts) sinks.push_back(&part);
  int first_layer = model.config().layers;
  for (const BlockId& block : blocks) first_layer = std::min(first_layer, block.matrix.layer);
  const std::vector<double> values = readout_gradients(model, batch, first_layer, {&readout, 1}, sinks, cancel);

  std::vector<PromptKernels> result;
  size_t at = 0;
  for (size_t p = 0; p < prompts.size(); ++p) {
    const size_t n = prompts[p].examples.size();
    PromptKernels& kernels = result.emplace_back();
    kernels.answer = values[at];
    kernels.left_out.assign(values.begin() + static_cast<ptrdiff_t>(at + 1),
                            values.begin() + static_cast<ptrdiff_t>(at + 1 + n));
    at += n + 1;
    kernels.kernels = Matrix::uninitialized(blocks.size(), n * n);
    kernels.queries = Matrix::uninitialized(blocks.size(), n);
    const auto to_float = [](double value) { return static_cast<float>(value); };
    for (size_t b = 0; b < blocks.size(); ++b) {
      const QueryKernel kernel = query_kernel(grams[p].grams().at(blocks[b]), 0);
      std::ranges::transform(kernel.kernel, kernels.kernels.row(b).begin(), to_float);
      std::ranges::transform(kernel.with_query, kernels.queries.row(b).begin(), to_float);
      kernels.query_norm += kernel.query;
    }
  }
  return result;
}

}  // namespace hone::lab
