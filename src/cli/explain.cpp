// hone explain MODEL --examples F --query "…": what a few-shot decision rests on, in the terminal and as SVG.
#include <fmt/format.h>

#include <algorithm>

#include "cli/commands.h"
#include "cli/examples.h"
#include "cli/few_shot_options.h"
#include "cli/few_shot_plots.h"
#include "cli/outputs.h"
#include "cli/progress.h"
#include "cli/streams.h"
#include "cli/terminal_text.h"

namespace hone::cli {
namespace {

struct ExplainArguments : FewShotArguments {
  std::string query;
  std::filesystem::path svg;
};

void print(const ExplainArguments& arguments, const Model& model, const FewShotAnswer& answer) {
  if (arguments.json) {
    nlohmann::json object = answer_json(arguments.query, answer);
    object["model"] = model.name();
    object["sentence"] = decision_sentence(answer);
    return print_json(object);
  }
  constexpr size_t label_width = 40;
  if (answer.classes.empty())
    fmt::print("{} ± {:.3g}, in-context {:.6g}\n", answer.label, answer.deviation, answer.in_context_value);
  for (const auto& [label, in_context, adapted, mixed] : answer.classes)
    fmt::print("{:8.3f}  {}  (in-context {:.3f}, adapted {:.3f})\n", mixed, one_line(label, label_width), in_context,
               adapted);
  fmt::print("{}\n\n{}", decision_sentence(answer), few_shot_drawing(answer));
}

void run_explain(const ExplainArguments& arguments) {
  require_writable_folder(arguments.svg);
  const std::vector<LabelledText> examples = read_examples(arguments.examples);
  const auto model = arguments.model.open();
  CancelToken cancel;
  FewShotAnswer answer;
  {
    const Watch watch = terminal_watch(arguments.json);
    cancel = watch.cancel;
    FewShot few_shot = few_shot_of(arguments.examples, model, examples, arguments.options_for(model, watch), watch);
    answer = few_shot.answer(arguments.query, watch);
  }
  print(arguments, *model, answer);
  flush_standard_output();
  if (!arguments.svg.empty()) write_few_shot_plots(answer, arguments.svg, cancel);
}

}  // namespace

void add_explain(Command program) {
  auto arguments = std::make_shared<ExplainArguments>();
  const Command command = program.subcommand("explain", "Show what the few-shot decision for one text rests on");
  arguments->add_to(command);
  command.option("--query", arguments->query, "The text to label").required();
  command.option("--svg", arguments->svg, "Also draw figures into this folder (needs gnuplot)");
  command.callback([arguments] {
    arguments->check();
    if (arguments->query.empty()) throw Error(ErrorCode::bad_input, "--query is empty; give the text to label");
    run_explain(*arguments);
  });
}

}  // namespace hone::cli
