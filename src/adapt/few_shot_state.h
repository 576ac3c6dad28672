// What a FewShot holds: the part that all queries share.
#pragma once

#include <optional>

#include "adapt/few_shot_prompt.h"
#include "adapt/label_outputs.h"
#include "adapt/prefix_reader.h"
#include "adapt/step_directions.h"
#include "hone/fewshot.h"
#include "hone/selectors.h"

namespace hone {

// How far, for one set of blocks: nothing here depends on the query.
struct StepsOfBlocks {
  std::vector<size_t> blocks;
  decide::Spectrum spectrum;
  double rho = 0;
  std::vector<double> trusted, losses, weights;  // [|T|]
  std::vector<double> update_weights;            // q(K) r [m] of the trusted steps
  double mean_steps = 0;                         // of the trusted
};

// What further queries need of the examples where blocks do not depend on the query.
struct TangentState {
  std::vector<BlockChoice> blocks;
  StepDirections directions;
  decide::StepDecision decision;  // without a query
  TangentReader reader;           // of start and examples, their last token left out: a query has at least one
};

// A query as it is read: what the model says, and what the steps make of it.
struct QueryReading {
  LabelReadings base;
  std::vector<double> linearised;  // of the filter in use [outputs]
};

struct FewShot::Impl {
  Impl(std::shared_ptr<const Model> shared_model, std::span<const LabelledText> texts, FewShotOptions wanted,
       const Watch& watch);

  size_t rows() const { return label_of.size() * outputs->outputs(); }  // m
  decide::StepOptions step_options() const;
  // log p of example i's label by every T's leave-one-out prediction [|T|, n], given its errors [|T|, m].
  decide::Matrix64 label_log_p(const decide::Matrix64& left_out_errors) const;
  const StepsOfBlocks& steps_of(std::vector<size_t> chosen, const CancelToken& cancel);
  // Both fill what the report says of blocks, steps, outputs along T and Bayes gap.
  QueryReading read_with_gradients(const std::vector<Token>& prompt, FewShotReport& report, const Watch& watch);
  QueryReading read_with_tangents(const std::vector<Token>& prompt, FewShotReport& report, const Watch& watch);
  TangentState tangent_state(std::span<const Token> prefix, const Watch& watch);
  // Throws Error{bad_input} if it does not fit into the context.
  std::vector<Token> prompt_with(std::string_view query) const;
  FewShotAnswer answer(std::string_view query, const Watch& watch);

  std::shared_ptr<const Model> model;
  FewShotOptions options;
  std::vector<BlockId> blocks;
  PromptTemplate prompt_template;
  std::vector<std::string> labels;
  std::optional<LabelOutputs> outputs;
  std::vector<double> label_values;  // regression
  std::vector<Token> common;         // what all labels begin with: part of every prompt
  std::vector<Token> start;
  std::vector<Example> examples;
  std::vector<std::vector<Token>> prompts;  // leave-one-out [n]
  std::vector<size_t> label_of;             // [n]
  std::vector<double> steps;                // T

  LabelReadings read;             // of the prompts
  std::vector<Matrix> gradients;  // [block][m, out·in]
  Matrix kernels;                 // [blocks, m·m]
  std::optional<decide::Spectrum> full;
  double scale = 1;
  std::vector<double> residuals;    // r [m]
  std::vector<double> step_scores;  // ℓ_T of all blocks
  decide::Signal signal;            // of all blocks
  std::optional<PrefixReader> lower;
  std::optional<StepsOfBlocks> latest;
  std::optional<TangentState> tangent;
  StageSeconds seconds;

 private:
  void read_examples(const Watch& watch);
  // The outputs at the query of updated weights and of gradient descent, where the options ask for them.
  void read_with_weights(const std::vector<Token>& prompt, std::span<const size_t> chosen, FewShotReport& report,
                         const Watch& watch);
  // Fills all of the answer but its report.
  void mix(const LabelReadings& base, const std::vector<double>& adapted, FewShotAnswer& answer) const;
  void decide_scale();
  std::vector<double> residuals_at(double target_scale) const;
  void check_length(const std::vector<Token>& prompt, std::string_view what) const;
  Adapter update() const;
  friend class FewShot;
};

// The filter Σ_T ν(T) q_T at the eigenvalues.
std::vector<double> trusted_filter(const StepsOfBlocks& s, const std::vector<double>& steps);

// T steps of gradient descent itself on ½ Σ (target − f(prompt))², θ ← θ + ρ Σ_i r_i(θ) ∇f_i(θ) on `blocks`, from the
// base: T passes over the leave-one-out prompts. Returns ΔW. Throws Error{cancelled}.
Adapter descend(const Model& model, const LabelOutputs& labels, std::span<const std::vector<Token>> prompts,
                std::span<const double> targets, std::span<const BlockId> blocks, double rho, size_t steps,
                const Watch& watch);

// Calls body(first, count) for runs of prompts that fit into one pass.
void for_each_pass(const LabelOutputs& labels, std::span<const std::vector<Token>> prompts,
                   const std::function<void(size_t, size_t)>& body);

}  // namespace hone
