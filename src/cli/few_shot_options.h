// What `hone fewshot` and `hone explain` share: options, reading the examples, and the answer as JSON and as a
// sentence.
#pragma once

#include <optional>

#include "cli/options.h"
#include "hone/fewshot.h"

namespace hone::cli {

struct FewShotArguments {
  ModelArguments model;
  std::filesystem::path examples;
  std::vector<std::filesystem::path> earlier;
  std::vector<std::string> queries;
  std::optional<int> layers;
  std::string blocks = "v";
  std::string subspace = "all";
  std::string steps = "gibbs";
  FewShotOptions options;
  bool regression = false;
  bool json = false;

  void add_to(Command command);
  // For callbacks: refuses options that could not matter together.
  void check() const;
  // Options for this model, with the prior that --earlier teaches.
  FewShotOptions options_for(const std::shared_ptr<const Model>& opened, const Watch& watch) const;
};

// The prompt of the examples that `file` holds. Errors of the examples name it.
FewShot few_shot_of(const std::filesystem::path& file, const std::shared_ptr<const Model>& model,
                    std::span<const LabelledText> examples, FewShotOptions options, const Watch& watch);

// One query's answer and its decision; the schema is in docs/json.md.
nlohmann::json answer_json(const std::string& query, const FewShotAnswer& answer);
// Whether to adapt, how far, where, and what that changed.
std::string decision_sentence(const FewShotAnswer& answer);

}  // namespace hone::cli
