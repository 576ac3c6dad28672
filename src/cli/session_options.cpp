#include "cli/session_options.h"

#include <algorithm>
#include <utility>

namespace hone::cli {
namespace {

constexpr double least_step = 1e-9, largest_step = 1;

// Given once, its values between commas.
Option step_sizes(Command command, const std::string& name, std::vector<float>& steps, const std::string& along) {
  return command.option(name, steps, "Step sizes " + along + ", between commas")
      .delimiter(',')
      .one_value_each()
      .in_range(least_step, largest_step)
      .shows_default();
}

// What is of no effect without a store, and the step sizes among it again.
std::pair<std::vector<Option>, StepSizeOptions> add_options_of_store(Command command, SessionOptions& options,
                                                                     std::filesystem::path& encoder) {
  const Option neighbours =
      command.option("--neighbours", options.neighbours, "Neighbours whose gradients teach; 0: none").shows_default();
  const Option context_neighbours =
      command.option("--context-neighbours", options.context_neighbours, "Neighbours read as text; 0: none")
          .shows_default();
  const auto [retrieval, moved] = add_retrieval(command, options.retrieval, encoder);
  const Option neighbour_steps =
      step_sizes(command, "--neighbour-steps", options.neighbour_steps, "along the neighbours' gradient");
  const Option prompt_steps =
      step_sizes(command, "--prompt-steps", options.prompt_steps, "along the prompt's own gradient");
  const Option context_steps =
      step_sizes(command, "--context-steps", options.context_steps, "of experts that also read the context");
  std::vector<Option> all = {
      neighbours,
      context_neighbours,
      retrieval,
      moved,
      neighbour_steps,
      prompt_steps,
      context_steps,
      command.option("--first-layer", options.first_layer, "Lowest layer that adapts (default: top quarter)")
          .not_negative(),
      command
          .option(
              "--sharing",
              [&options](const std::string& name) {
                options.sharing = name == "bayes" ? decide::Sharing::bayes : decide::Sharing::fixed_share;
              },
              "How weights move: fixed-share (1/(t+1), the default) or bayes")
          .one_of({"fixed-share", "bayes"})};
  return {std::move(all), StepSizeOptions{neighbour_steps, prompt_steps, context_steps}};
}

// What is of no effect where the mixture answers nothing.
std::vector<Option> add_options_of_answer(Command command, SessionOptions& options) {
  return {
      command.option("--floor", options.floor, "Every token keeps floor × the base's probability").shows_default(),
      command.option("--block-tokens", options.block_tokens, "Prompt tokens that are judged at a time")
          .shows_default()
          .positive(),
      command.option("--judged-blocks", options.judged_blocks, "So many of the prompt's last blocks move the weights")
          .shows_default(),
      command
          .option("--answering-experts", options.answering_experts,
                  "So many experts beside the base make the answer, heaviest first")
          .shows_default(),
      command.flag("--learn-from-answer", options.learn_from_answer, "Generated tokens move the weights too")};
}

}  // namespace

SessionOptionGroups add_session_options(Command command, SessionOptions& options, std::filesystem::path& encoder) {
  auto [of_store, steps] = add_options_of_store(command, options, encoder);
  of_store.push_back(add_gradient_budget(command, options.gradient_budget));
  return {std::move(of_store), add_options_of_answer(command, options), steps};
}

bool any_given(std::span<const Option> options) {
  return std::ranges::any_of(options, [](const Option& option) { return option.given(); });
}

void require_what_steps_need(const SessionOptions& options, const StepSizeOptions& steps) {
  if (steps.context.given() && options.context_neighbours == 0)
    refuse_usage("--context-steps excludes --context-neighbours 0: its experts read that context");
  if ((steps.neighbour.given() || steps.context.given()) && options.neighbours == 0)
    refuse_usage(
        "--neighbour-steps and --context-steps exclude --neighbours 0: they go along the neighbours' gradient");
}

}  // namespace hone::cli
