// What makes each experiment; a new one adds its line here and in experiments.cpp.
#pragma once

#include <memory>

#include "lab/experiment.h"

namespace hone::lab {

std::unique_ptr<const Experiment> make_block_budget();
std::unique_ptr<const Experiment> make_certificate();
std::unique_ptr<const Experiment> make_digit_shift();
std::unique_ptr<const Experiment> make_experts();
std::unique_ptr<const Experiment> make_few_shot_clinc150();
std::unique_ptr<const Experiment> make_few_shot_sst2();
std::unique_ptr<const Experiment> make_gp_benchmark();
std::unique_ptr<const Experiment> make_language_scaling();
std::unique_ptr<const Experiment> make_locality();
std::unique_ptr<const Experiment> make_lrh_theory();
std::unique_ptr<const Experiment> make_neighbours();
std::unique_ptr<const Experiment> make_scaling_data();
std::unique_ptr<const Experiment> make_scaling_width();
std::unique_ptr<const Experiment> make_sae_observations();
std::unique_ptr<const Experiment> make_sst2();

}  // namespace hone::lab
