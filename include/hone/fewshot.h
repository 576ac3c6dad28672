// fewshot: prompts of labelled examples, what is read off the model's answer to them and its gradients, and FewShot,
// which decides for such a prompt whether, how far and where to adapt. Follows [DTV], arXiv 2606.15569.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "hone/adapt.h"
#include "hone/grams.h"
#include "hone/model.h"
#include "hone/selectors.h"
#include "hone/steps.h"

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
  // The value at logits z [labels]; ∂value/∂z is written to d_z [labels]. Throws Error{bad_input} unless both have one
  // entry per label.
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

// --- Deciding and answering ---

// A labelled example as its owner writes it.
struct LabelledText {
  std::string input;
  std::string label;
};

struct FewShotOptions {
  enum class Task {
    classification,  // which of the labels
    regression,      // labels are numbers; the answer is their expected value
  };
  // Which blocks adapt when `budget` is smaller than their number; see directions.h.
  enum class Subspace { all, query_aware, greedy, exact, trace, last_layer, random };
  // Which step counts are trusted before the leave-one-out losses speak.
  enum class Steps {
    evidence,  // T_MAP, σ fixed
    profiled,  // T_MAP, σ profiled
    gibbs,     // the Gibbs posterior, σ fixed; with `step_prior` that of a stream, an empirical Bayes one
    loo,       // the T of the least leave-one-out error of the linearised prediction
    fixed,     // fixed_steps
  };

  // How a query's linearised prediction is computed.
  enum class QueryPass {
    // By its gradient, a pass forward and back over the whole prompt: its kernel row on every block, hence Bayes gap,
    // scores and certificates of this query.
    gradient,
    // By the derivative of its outputs along the update, for all T together, forward: the first query reads the
    // examples so, a further one its own tokens only, whatever the number of outputs. Predictions differ by at most
    // 1e-4 ‖∇f(x)‖ times the longest update. No Bayes gap, no scores by query. Only where blocks are chosen without
    // the query: all, trace, last_layer, random.
    tangent,
  };

  // Every T has its own leave-one-out predictions, outputs and weight.
  static constexpr size_t most_steps = 100000;

  Task task = Task::classification;
  std::vector<std::string> labels = {};  // all there are; empty: the examples' own, in the order in which they appear
  // Names {input} and {label} once each, in that order. Every example is written so, one after the other, and the query
  // up to where {label} stands. Spaces before {label} belong to the label: tokens are words with the space before them.
  std::string prompt_template = "{input} -> {label}\n";

  int layers = 8;                                      // the last so many; all if the model has fewer
  std::vector<MatrixKind> matrices = {MatrixKind::v};  // v and o by heads
  std::vector<BlockId> blocks = {};                    // instead of the two above
  Subspace subspace = Subspace::all;
  size_t budget = 0;  // how many blocks adapt; 0 with Subspace::all

  Steps steps = Steps::gibbs;
  size_t max_steps = 30;                // T = 0 … max_steps, or fixed_steps if that is more; at most most_steps
  size_t fixed_steps = 8;               // of Steps::fixed; at most most_steps
  std::vector<double> step_prior = {};  // π(T) [|T|], e.g. StepPrior::prior(); empty: uniform
  double step = 0.5;                    // c in ρ = c/λ_max
  double floor = 0.05;                  // ε: every answer keeps ε × the in-context probability
  double delta = 0.05;                  // the certificate's

  QueryPass query_pass = QueryPass::gradient;
  bool exact_update = false;     // answer with the updated weights instead of the linearised prediction
  bool descent = false;          // also run gradient descent itself on the same blocks, for the mean of trusted steps
  uint64_t seed = 0;             // of Subspace::random
  uint64_t memory = 4ull << 30;  // most bytes of examples' gradients to hold
};

// Throws Error{bad_input} for options that do not fit each other or this model: what FewShot's constructor throws
// before it looks at examples.
void check_few_shot_options(const Model& model, const FewShotOptions& options);

// Whether the rule looks at the query: query_aware, greedy and exact do.
bool chosen_by_query(FewShotOptions::Subspace subspace);

// One block of the candidates, with its scores against the kernel of all candidates.
struct BlockChoice {
  BlockId id;
  double trace = 0;        // tr(K^(b) (K + s²I)^{-1})
  double query_aware = 0;  // k_x^(b)ᵀ (K + s²I)^{-1} k_x^(b); NaN with QueryPass::tangent
  bool chosen = false;
};

// What one query's answer rests on. m = n · outputs: every example has one output in regression, and C − 1 in
// classification over C labels.
struct FewShotReport {
  size_t examples = 0;  // n
  size_t outputs = 0;
  double target_scale = 1;          // a, chosen by evidence; 1 in regression
  std::vector<double> residuals;    // r [m], an example's outputs side by side
  std::vector<double> eigenvalues;  // of the chosen blocks' kernel [m]
  std::vector<BlockChoice> blocks;
  // One an output; they share posterior, signal and certificates. With QueryPass::tangent `query` is empty, corrections
  // and gaps are NaN.
  std::vector<decide::StepDecision> decisions;
  double risk_adapted = 0;  // Bayes gap of the filter in use, summed over outputs; NaN with QueryPass::tangent
  double risk_base = 0;
  // risk_adapted < risk_base and some T > 0 has weight; with QueryPass::tangent, whether the residuals show a signal
  // and some T > 0 has weight.
  bool adapt = false;
  double steps = 0;                          // mean T of the step counts trusted
  std::vector<double> trusted;               // ν(T) [|T|], as FewShotOptions::Steps says
  std::vector<double> filter;                // Σ ν(T) q_T at the eigenvalues [m]
  std::vector<double> leave_one_out_losses;  // mean −log2 p(y_i) of each T's leave-one-out predictions [|T|]
  std::vector<double> weights;               // of the mixture over T [|T|], floor applied; weights[0] is in-context
  std::vector<std::vector<double>> outputs_along_steps;  // linearised outputs at the query [|T|, outputs]
  double bound_bits = 0;  // log2(1/ε): for every truth the answer's log-loss exceeds in-context's by at most this
  // Only with exact_update or descent: the outputs at the query of the filter in use, linearised and with updated
  // weights, and of gradient descent itself for `steps` steps, rounded [outputs].
  std::vector<double> linearised, updated, descended;
  StageSeconds seconds;  // of this answer; what examples cost is FewShot::seconds()
  std::string base_hash;
};

struct ClassProbability {
  std::string label;
  double in_context = 0;  // the model's own
  double adapted = 0;     // of the filter in use
  double answer = 0;      // of the mixture
};

struct FewShotAnswer {
  std::string label;                      // the likeliest class; in regression the number as text
  std::vector<ClassProbability> classes;  // classification only, in the order of the labels
  // Regression only. The mixture is one of Gaussians with this standard deviation.
  double value = 0, in_context_value = 0, adapted_value = 0, deviation = 0;
  FewShotReport report;

  // What report.outputs_along_steps[t] says: the classes' probabilities [C], in regression the number alone [1].
  // Throws std::out_of_range where there is no such t.
  std::vector<double> prediction_along_steps(size_t t) const;
};

// A prompt of labelled examples, ready for queries. Construction does what all queries share: leave-one-out passes, one
// gradient an output and block, Grams, spectrum, evidence, the examples' own residual stream below the adapted layers.
// A query then costs its own tokens below the adapted layers, and the prompt in them, forward and back; with
// QueryPass::tangent, its own tokens alone.
//
// Outputs. log p(label c) = Σ over its tokens of log p(token | prompt, tokens before), what all labels share at their
// beginning left out; where one label is the beginning of another, each is read with the template's text behind it.
// Regression: ŷ = Σ_c value_c p_c, p normalised over labels. Classification: f = B log p, B [C − 1, C] with rows
// orthogonal, of squared length 2 and sum 0, so that two classes have their logit margin; p = softmax(Bᵀf/2). Targets
// are a·B e_y: a margin of ±a. The scale a is the one of the greatest evidence of y = (f + correction + noise)/a,
// a^m p(r_a), over a ∈ {½, 1, 2, 4, 8}.
//
// The answer is the mixture over T with prior ½ on T = 0 and ½ ν, weighted by leave-one-out likelihoods of the labels,
// then floored: p ≥ ε p_in-context for every label, whatever the adapted predictions say.
//
// Everything belongs to this object; the model is only read. One thread at a time.
class FewShot {
 public:
  // Throws Error{bad_input} if there are no examples, only one label, two labels that are the same text or the same
  // tokens, a label of an example that `labels` lacks, one that is no number (regression), a prompt longer than the
  // model's context, options that do not fit; Error{unsupported} if gradients exceed options.memory; Error{cancelled}.
  FewShot(std::shared_ptr<const Model> model, std::span<const LabelledText> examples, FewShotOptions options = {},
          const Watch& watch = {});
  FewShot(FewShot&&) noexcept;
  FewShot& operator=(FewShot&&) noexcept;
  ~FewShot();

  // Throws Error{bad_input} if the query does not fit into the context: for a look at many queries before the first
  // is answered.
  void check_query(std::string_view query) const;

  // Throws Error{bad_input} if the query does not fit into the context, Error{cancelled}.
  FewShotAnswer answer(std::string_view query, const Watch& watch = {});

  // ΔW = Σ_i w_i G_i on the blocks that answer() chose, w = q(K) r of the filter in use: what text can be generated
  // with. Throws Error{bad_input} before the first answer.
  Adapter update() const;

  // ℓ_T [|T|] of the kernel of all candidate blocks and the number m that it is a mean over: what
  // decide::StepPrior::observe() learns a stream's prior from.
  std::span<const double> step_scores() const;
  size_t observations() const;

  const std::vector<std::string>& labels() const;
  const StageSeconds& seconds() const;  // of construction

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hone
