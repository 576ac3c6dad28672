// What [DTV]'s experiments ask a model: prompts of labelled examples, and one packed pass over several of them.
#pragma once

#include <span>
#include <vector>

#include "hone/directions.h"
#include "hone/fewshot.h"
#include "hone/grams.h"

namespace hone::lab {

struct LabelledPrompt {
  std::vector<Token> start;  // what every prompt begins with
  std::vector<Example> examples;
  std::vector<Token> query;

  // leave_one_out_prompts of these: the query prompt first. [n + 1]
  std::vector<std::vector<Token>> texts() const { return leave_one_out_prompts(start, examples, query); }
};

// One prompt's readouts B(P_n, x), B(P^(−i), x_i) and its blocks' kernels.
struct PromptKernels {
  double answer = 0;             // B(P_n, x), the prediction in context
  std::vector<double> left_out;  // B(P^(−i), x_i) [n]
  Matrix kernels;                // [B, n·n]: K^(b)
  Matrix queries;                // [B, n]: k_x^(b)
  double query_norm = 0;         // κ_x over all blocks

  decide::BlockKernels blocks() const { return {kernels, queries}; }
  // r_i = y_i − B(P^(−i), x_i). `targets` [n].
  std::vector<double> residuals(std::span<const double> targets) const;
};

// Of every prompt, from one forward and one backward pass over all of them, each prompt's texts sharing their prefixes.
// Kernels are those of `blocks`, in that order. Throws Error{bad_input} for no prompts or blocks, a prompt without
// examples or a block that does not exist, and as readout_gradients does.
std::vector<PromptKernels> prompt_kernels(const Model& model, std::span<const LabelledPrompt> prompts,
                                          std::span<const BlockId> blocks, const Readout& readout,
                                          const CancelToken& cancel = {});

// Offers only sequences [first, first + count) of a batch to another sink, as if they were all.
class PartOfBatch : public GradientSink {
 public:
  PartOfBatch(GradientSink& to, size_t first, size_t count) : to_(to), first_(first), count_(count) {}
  void accept(const LinearGradient& gradient) override;

 private:
  GradientSink& to_;
  size_t first_;
  size_t count_;
};

// The v blocks, one a key/value head, of a model's last `layers` layers, or of all where it has fewer.
std::vector<BlockId> value_blocks(const Model& model, int layers);
// Of as many of the last layers as hold at least `count` v blocks, or of all.
std::vector<BlockId> at_least_value_blocks(const Model& model, int count);
// The layer of each.
std::vector<int> layers_of(std::span<const BlockId> blocks);

}  // namespace hone::lab
