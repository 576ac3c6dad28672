#include "lab/experiments.h"

#include <fmt/format.h>

namespace hone::lab {

const std::vector<std::unique_ptr<const Experiment>>& experiments() {
  static const std::vector<std::unique_ptr<const Experiment>> all = [] {
    std::vector<std::unique_ptr<const Experiment>> made;
    made.push_back(make_gp_benchmark());
    made.push_back(make_certificate());
    made.push_back(make_digit_shift());
    made.push_back(make_block_budget());
    made.push_back(make_sst2());
    made.push_back(make_lrh_theory());
    made.push_back(make_scaling_width());
    made.push_back(make_scaling_data());
    made.push_back(make_neighbours());
    made.push_back(make_locality());
    made.push_back(make_experts());
    made.push_back(make_few_shot_sst2());
    made.push_back(make_few_shot_clinc150());
    made.push_back(make_sae_observations());
    made.push_back(make_language_scaling());
    return made;
  }();
  return all;
}

const Experiment& find_experiment(std::string_view name) {
  std::string names;
  for (const auto& experiment : experiments()) {
    if (experiment->name() == name) return *experiment;
    names += (names.empty() ? "" : ", ") + std::string(experiment->name());
  }
  throw Error(ErrorCode::not_found, fmt::format("there is no experiment '{}'; there are {}", name, names));
}

}  // namespace hone::lab
