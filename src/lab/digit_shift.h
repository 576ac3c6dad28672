// The digit-shift tasks of [DTV]'s experiments 1 and 2: y = (x + s) mod 10, told by examples.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lab/prompt_kernels.h"

namespace hone::lab {

// As published: s, the x and the query's x are uniform over the digits, the query independent of the examples; a task
// is clean or noisy with equal probability, and in a noisy one each example's label is replaced by a uniform digit,
// which may be the right one, with probability .55. The query's answer is never replaced.
struct DigitShift {
  int shift = 0;
  bool noisy = false;
  std::string sign;         // "->" or ":"
  std::vector<int> x;       // [n]
  std::vector<int> labels;  // [n]
  int query = 0;

  int answer() const { return (query + shift) % 10; }
  std::vector<double> targets() const;  // y/9 [n]
  double target() const { return answer() / 9.0; }
};

// Task `number` of a seed's tasks, the same whatever else is drawn.
DigitShift digit_shift(uint64_t seed, size_t number, size_t examples = 10);

// "3->5\n" for every example, in the order in which they were drawn, then "7->". Throws Error{unsupported} if a digit
// is not one token of the model.
LabelledPrompt digit_prompt(const Model& model, const DigitShift& task);
// ŷ = Σ_j (j/9) softmax(logits of the ten digits)_j. Throws Error{unsupported} likewise.
Readout digit_readout(const Model& model);

}  // namespace hone::lab
