#include "cli/session_options.h"

namespace hone::cli {

void add_session_options(Command command, SessionOptions& options, std::filesystem::path& encoder) {
  command.option("--neighbours", options.neighbours, "Neighbours whose gradients teach").shows_default();
  command.option("--context-neighbours", options.context_neighbours, "Neighbours read as text; 0: none")
      .shows_default();
  add_retrieval(command, options.retrieval, encoder);
  command.option("--neighbour-steps", options.neighbour_steps, "Step sizes along the neighbours' gradient")
      .delimiter(',')
      .shows_default();
  command.option("--prompt-steps", options.prompt_steps, "Step sizes along the prompt's own gradient")
      .delimiter(',')
      .shows_default();
  command.option("--context-steps", options.context_steps, "Step sizes of experts that also read the context")
      .delimiter(',')
      .shows_default();
  command.option("--first-layer", options.first_layer, "Lowest layer that adapts (default: top quarter)")
      .not_negative();
  command
      .option(
          "--sharing",
          [&options](const std::string& name) {
            options.sharing = name == "bayes" ? decide::Sharing::bayes : decide::Sharing::fixed_share;
          },
          "How weights move: fixed-share (1/(t+1), the default) or bayes")
      .one_of({"fixed-share", "bayes"});
  command.option("--floor", options.floor, "Every token keeps floor × the base's probability").shows_default();
  command.option("--block-tokens", options.block_tokens, "Prompt tokens that are judged at a time")
      .shows_default()
      .positive();
  command.option("--judged-blocks", options.judged_blocks, "So many of the prompt's last blocks move the weights")
      .shows_default();
  command
      .option("--answering-experts", options.answering_experts,
              "So many experts beside the base make the answer, heaviest first")
      .shows_default();
  command.flag("--learn-from-answer", options.learn_from_answer, "Generated tokens move the weights too");
  add_gradient_budget(command, options.gradient_budget);
}

}  // namespace hone::cli
