// A panel of experts that read one text side by side. An expert is (context, direction, step size).
#pragma once

#include <string>
#include <vector>

#include "adapt/reading.h"
#include "hone/adapt.h"

namespace hone {

// What an expert of a lesson is made of.
enum class Family { base, prompt_step, neighbour_step, context_step, context };

struct Expert {
  std::string name;
  size_t context = 0;                // index of ExpertPanel::add_context
  const Adapter* adapter = nullptr;  // nullptr: the base; must outlive the panel
  float step = 0;
  double prior = 0;  // in the no-harm mixture
  Family family = Family::base;
};

// Rounding can lift a log-probability above 0. NaN stays: the mixture gives it no weight.
inline double at_most_certain(float log_prob) { return log_prob > 0 ? 0 : log_prob; }

// Below the first adapted layer a context's keys and values are computed once for all of its experts. What stands
// before the text (retrieved chunks, the prompt so far) is read by the base; experts read the text itself.
class ExpertPanel {
 public:
  ExpertPanel(const Model& model, int first_adapted_layer, const CancelToken& cancel);

  // Tokens that stand before the text; BOS comes first where the model's file says so. Contexts before experts.
  // `from` has read something before: what starts alike is not read again.
  size_t add_context(std::span<const Token> before, Reading from);
  size_t add_context(std::span<const Token> before);
  void add_expert(Expert expert);
  const std::vector<Expert>& experts() const { return experts_; }

  // Every expert reads `tokens`. Returns −log p_j(token | everything before) for tokens [first_scored, n), as
  // [experts, n − first_scored]. first_scored is at least 1 if nothing stands before the first token.
  Matrix read(std::span<const Token> tokens, size_t first_scored);
  // The same without scoring.
  void read(std::span<const Token> tokens) { read(tokens, tokens.size()); }
  // What the base has read in each context, for a next panel: the text too where an unadapted expert has read it. This
  // panel reads no more afterwards.
  std::vector<Reading> take_readings();
  // Logits [experts, V] of the token that follows what was read. Something must have been read.
  Matrix next_logits() const;

 private:
  const Model& model_;
  int first_adapted_layer_;
  CancelToken cancel_;
  std::vector<Reading> contexts_;  // `above` holds what stands before the text, the rest everything read
  std::vector<size_t> before_;     // tokens that stand before the text, BOS included
  std::vector<Expert> experts_;
  std::vector<KvCache> caches_;      // layers [S, L) of each expert
  std::vector<Matrix> last_hidden_;  // [1, D] of each expert, or empty
};

}  // namespace hone
