// The options of a request that `complete` and `eval` share.
#pragma once

#include <span>
#include <vector>

#include "cli/options.h"
#include "hone/adapt.h"

namespace hone::cli {

// Step sizes of experts: of no effect where there is nothing to step along.
struct StepSizeOptions {
  Option neighbour;
  Option prompt;
  Option context;
};

// Those that a command may have to refuse.
struct SessionOptionGroups {
  std::vector<Option> of_store;   // of no effect without a store
  std::vector<Option> of_answer;  // of no effect where no answer is made: the mixture that answers, not what it holds
  StepSizeOptions steps;          // among of_store
};

// `encoder` is what encoder_for() is given once the store is open.
SessionOptionGroups add_session_options(Command command, SessionOptions& options, std::filesystem::path& encoder);

bool any_given(std::span<const Option> options);

// For callbacks: refuses steps along the gradient of no neighbours, and of experts that read the context where none is.
void require_what_steps_need(const SessionOptions& options, const StepSizeOptions& steps);

}  // namespace hone::cli
