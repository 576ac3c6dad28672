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

// One readout of one prompt: B(P_n, x), B(P^(−i), x_i) and the blocks' kernels.
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

// From one forward and one backward pass over all prompts, each prompt's texts sharing their prefixes. Entry
// p · |readouts| + o is prompt p's readout o. The blocks are those of `blocks`, in that order. Throws Error{bad_input}
// for a prompt without examples or a block that does not exist, and as readout_gradients does.
std::vector<PromptKernels> prompt_kernels(const Model& model, std::span<const LabelledPrompt> prompts,
                                          std::span<const BlockId> blocks, std::span<const Readout> readouts,
                                          const CancelToken& cancel = {});

// Offers only sequences [first, first + count) of a batch to another sink, as if they were all. What they share must
// lie among rows of their own or of neighbouring sequences.
class PartOfBatch : public GradientSink {
 public:
  PartOfBatch(GradientSink& to, size_t first, size_t count) : to_(to), first_(first), count_(count) {}
  void accept(const LinearGradient& gradient) override;

 private:
  GradientSink& to_;
  size_t first_;
  size_t count_;
};

// The v blocks of a model's last `layers` layers, or of all where it has fewer: one a key/value head.
std::vector<BlockId> value_blocks(const Model& model, int layers);

}  // namespace hone::lab
