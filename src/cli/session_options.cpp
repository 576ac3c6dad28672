#include "cli/session_options.h"

namespace hone::cli {

void add_session_options(CLI::App& command, SessionOptions& options, std::filesystem::path& encoder) {
  command.add_option("--neighbours", options.neighbours, "Neighbours whose gradients teach")->capture_default_str();
  command.add_option("--context-neighbours", options.context_neighbours, "Neighbours read as text; 0: none")
      ->capture_default_str();
  add_retrieval(command, options.retrieval, encoder);
  command.add_option("--neighbour-steps", options.neighbour_steps, "Step sizes along the neighbours' gradient")
      ->delimiter(',')
      ->capture_default_str();
  command.add_option("--prompt-steps", options.prompt_steps, "Step sizes along the prompt's own gradient")
      ->delimiter(',')
      ->capture_default_str();
  command.add_option("--context-steps", options.context_steps, "Step sizes of experts that also read the context")
      ->delimiter(',')
      ->capture_default_str();
  command.add_option("--first-layer", options.first_layer, "Lowest layer that adapts (default: top quarter)")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option_function<std::string>(
          "--sharing",
          [&options](const std::string& name) {
            options.sharing = name == "bayes" ? decide::Sharing::bayes : decide::Sharing::fixed_share;
          },
          "How weights move: fixed-share (1/(t+1), the default) or bayes")
      ->check(CLI::IsMember({"fixed-share", "bayes"}));
  command.add_option("--floor", options.floor, "Every token keeps floor × the base's probability")
      ->capture_default_str();
  command.add_option("--block-tokens", options.block_tokens, "Prompt tokens that are judged at a time")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command.add_option("--judged-blocks", options.judged_blocks, "So many of the prompt's last blocks move the weights")
      ->capture_default_str();
  command
      .add_option("--answering-experts", options.answering_experts,
                  "So many experts beside the base make the answer, heaviest first")
      ->capture_default_str();
  command.add_flag("--learn-from-answer", options.learn_from_answer, "Generated tokens move the weights too");
  add_gradient_budget(command, options.gradient_budget);
}

}  // namespace hone::cli
