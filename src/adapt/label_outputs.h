// What is read off the model about labels of several tokens: their log-probabilities after a prompt, the numbers made
// of them that a kernel compares, and their gradients.
#pragma once

#include <functional>

#include "adapt/block_gradients.h"
#include "adapt/tangent_reader.h"
#include "hone/fewshot.h"

namespace hone {

// The numbers f [outputs] that are made of log p [C], p normalised over the labels.
class LabelOutputs {
 public:
  // f = B log p, B [C − 1, C] with orthogonal rows of squared length 2 and sum 0: two labels have their logit margin.
  static LabelOutputs contrasts(std::vector<std::vector<Token>> labels);
  // f = Σ_c values[c] p_c, one output.
  static LabelOutputs expected_value(std::vector<std::vector<Token>> labels, std::vector<double> values);

  size_t classes() const { return labels_.size(); }  // C
  size_t outputs() const { return values_.empty() ? labels_.size() - 1 : 1; }
  const std::vector<std::vector<Token>>& labels() const { return labels_; }
  // All labels are one token: one position tells them all.
  bool one_position() const;

  std::vector<double> values(std::span<const double> log_p) const;  // f [outputs]
  decide::Matrix64 jacobian(std::span<const double> log_p) const;   // ∂f/∂log p [outputs, C]; its rows sum to 0
  std::vector<double> targets(size_t label) const;                  // B e_label, or the label's value
  std::vector<double> log_probabilities(std::span<const double> f) const;  // log softmax(Bᵀf/2) [C]; contrasts only

 private:
  std::vector<std::vector<Token>> labels_;
  std::vector<double> values_;
  decide::Matrix64 contrasts_;  // B
};

struct LabelReadings {
  decide::Matrix64 log_p;    // [prompts, C], normalised over labels
  decide::Matrix64 outputs;  // [prompts, outputs]
};

// The residual stream below the first adapted layer, of a packed batch.
using LowerLayers = std::function<Matrix(std::span<const Sequence>)>;

// Reads the labels after every prompt. Unless `gradients` [block] is empty, the gradients [prompts · outputs, out·in]
// of every output, a prompt's outputs side by side, are written to rows [first_row, …) of each block's matrix. Throws
// Error{bad_input} if a prompt with a label does not fit into the context or the model answers with numbers that are
// not finite; Error{cancelled}.
LabelReadings read_labels(const Model& model, const LabelOutputs& labels, std::span<const std::vector<Token>> prompts,
                          const Adapter* adapter, const LowerLayers& lower, std::span<const BlockId> blocks,
                          std::span<Matrix> gradients, size_t first_row, const CancelToken& cancel);

// The same of one prompt, the reader's prefix and then `tail`, at least one token, with the derivatives of its outputs
// along the reader's directions [outputs, R] in place of gradients. Every label is read once, whatever their number of
// outputs. The same errors.
struct LabelTangents {
  LabelReadings readings;
  decide::Matrix64 derivatives;
};
LabelTangents read_label_tangents(const Model& model, const LabelOutputs& labels, std::span<const Token> tail,
                                  const TangentReader& reader, const CancelToken& cancel);

}  // namespace hone
