// fewshot: prompts of labelled examples, what is read off the model's answer to them, and its gradients. Follows [DTV],
// arXiv 2606.15569.
#pragma once

#include <span>
#include <vector>

#include "hone/model.h"

namespace hone {

// A labelled example as the model reads it: "3->" and "5\n".
struct Example {
  std::vector<Token> input;
  std::vector<Token> label;
};

// The prompts whose readouts [DTV] §2 compares: first the query prompt (start, all n examples, query), then for each
// example i its leave-one-out prompt (start, the other examples, input i). `start` is what every prompt begins with,
// e.g. BOS; it may be empty. [n + 1]
std::vector<std::vector<Token>> leave_one_out_prompts(std::span<const Token> start, std::span<const Example> examples,
                                                      std::span<const Token> query);

// A number that is read off the logits z of a few label tokens, with its gradient.
class Readout {
 public:
  // ŷ = Σ_j values[j] · softmax(z)_j, softmax over the labels alone. Throws Error{bad_input} unless labels and values
  // are as many, at least two, the labels different and the values finite.
  static Readout expected_value(std::vector<Token> labels, std::vector<double> values);
  // z_a − z_b. Throws Error{bad_input} if a = b.
  static Readout margin(Token a, Token b);
  // log softmax(z)_index, natural logarithm, softmax over the labels alone. Throws Error{bad_input} unless the labels
  // are at least two and different and index is one of theirs.
  static Readout log_probability(std::vector<Token> labels, size_t index);

  std::span<const Token> labels() const { return labels_; }
  // The value at logits z [labels]; ∂value/∂z is written to d_z [labels].
  double value(std::span<const float> z, std::span<float> d_z) const;

 private:
  enum class Kind { expected_value, margin, log_probability };
  Readout(Kind kind, std::vector<Token> labels, std::vector<double> values);

  Kind kind_;
  std::vector<Token> labels_;
  std::vector<double> values_;  // expected_value: of each label; else how much each label's z or log p counts
};

// Runs the batch, reads each sequence's last position, and offers the readouts' gradients for layers [first_layer, L)
// to the sinks: sequence b's gradient rows hold the gradient of its own readout. Returns the values [B].
// `readouts` is one for all sequences, or one a sequence: several outputs of one prompt are the prompt several times,
// all but the first sharing all of its tokens (share_prefixes), which costs no forward pass.
// Throws Error{bad_input} if a sequence is empty, has a cache or does not fit the model, if readouts are neither 1 nor
// B, if a label is outside the vocabulary or first_layer is not a layer; Error{cancelled}.
std::vector<double> readout_gradients(const Model& model, std::span<const Sequence> batch, int first_layer,
                                      std::span<const Readout> readouts, std::span<GradientSink* const> sinks,
                                      const CancelToken& cancel = {});

// The values [B] alone: no tape, no gradients; sequences may have caches. The same errors.
std::vector<double> readout_values(const Model& model, std::span<const Sequence> batch,
                                   std::span<const Readout> readouts, const CancelToken& cancel = {});

}  // namespace hone
