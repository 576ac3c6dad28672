// Few-shot prompts from GLUE's SST-2 validation sentences (Socher et al. 2013), as [DTV] asks them.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "lab/prompt_kernels.h"

namespace hone::lab {

struct LabelledSentence {
  std::string text;
  int label = 0;  // 0 or 1
};

// sst2/dev.tsv under $HONE_DATA. Throws Error{not_found} that says how to give it.
std::filesystem::path sst2_file();
// A header line, then one label and sentence a line with a tab between them, in either order. Throws
// Error{not_found, corrupt} naming file and line.
std::vector<LabelledSentence> read_sst2(const std::filesystem::path& file);

// Which sentences task `number` takes: 10 examples, then the query. Queries are all different, in a random order; a
// task's examples are drawn without replacement from the other sentences. Throws Error{bad_input} for a number beyond
// the sentences.
std::vector<size_t> sst2_task(uint64_t seed, size_t number, size_t sentences, size_t examples = 10);

// "Text: {sentence} Label: 0\n", then "Text: {query} Label:". Tokens that both labels begin with belong to the input,
// so that the first token after it tells them apart.
class Sst2Format {
 public:
  // Throws Error{unsupported} if one label is the other's beginning.
  explicit Sst2Format(const Model& model);
  LabelledPrompt prompt(const std::vector<LabelledSentence>& sentences, std::span<const size_t> task) const;
  // z_1 − z_0: the probability of label 1 among the two is its logistic function.
  Readout margin() const { return Readout::margin(labels_[1].front(), labels_[0].front()); }

 private:
  std::vector<Token> input(const std::string& text) const;

  const Model& model_;
  std::vector<Token> common_;     // what both labels begin with
  std::vector<Token> labels_[2];  // the rest, with the line's end
};

// The kernels of ŷ = p_1 = 1/(1 + e^{−m}) from those of the margin m: ∇p = p(1 − p)∇m, so that K_ij gets the factor
// p_i(1 − p_i) p_j(1 − p_j).
PromptKernels probability_kernels(const PromptKernels& margin);

}  // namespace hone::lab
