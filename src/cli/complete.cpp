// hone complete MODEL [--store S] "prompt": the answer of the mixture, and what was decided.
#include <fmt/format.h>

#include <cstdio>

#include "base/rounding.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/session_options.h"
#include "cli/streams.h"
#include "cli/terminal_text.h"

namespace hone::cli {
namespace {

struct CompleteArguments {
  ModelArguments model;
  std::filesystem::path store, encoder;
  std::string prompt;
  std::string chat_template;
  bool chat = false;
  SessionOptions session;
  SamplingOptions sampling;
  bool base = false;
  bool json = false;
  bool quiet = false;
};

std::vector<Token> prompt_tokens(const CompleteArguments& arguments, const std::string& prompt, const Model& model) {
  if (!arguments.chat && arguments.chat_template.empty()) return model.tokenizer().encode(prompt);
  const std::filesystem::path& file = arguments.model.path;
  const ChatTemplate chat_template =
      arguments.chat_template.empty() ? chat_template_of(file) : chat_template_named(arguments.chat_template);
  const ChatMessage message{"user", prompt};
  const std::string system = chat_template == ChatTemplate::chatml ? default_system_of(file) : "";
  return model.tokenizer().encode(format_chat(chat_template, {&message, 1}, system), true);
}

nlohmann::json completion_json(const Completion& completion) {
  const Report& report = completion.report;
  nlohmann::json neighbours = nlohmann::json::array(), experts = nlohmann::json::array();
  for (const auto& [path, ordinal, score, in_context] : report.neighbours)
    neighbours.push_back({{"path", path}, {"ordinal", ordinal}, {"score", score}, {"in_context", in_context}});
  for (const auto& [name, prior, weight] : report.experts)
    experts.push_back({{"name", name}, {"prior", prior}, {"weight", weight}});
  return {{"text", completion.text},
          {"tokens", completion.tokens},
          {"stopped", completion.stopped},
          {"seconds_to_first_token", completion.seconds_to_first_token},
          {"tokens_per_second", completion.tokens_per_second},
          {"peak_rss_mb", peak_rss_mb()},
          {"hone",
           {{"protocol", report.protocol},
            {"retrieval", name(report.retrieval)},
            {"neighbours", neighbours},
            {"experts", experts},
            {"evidence_tokens", report.evidence_tokens},
            {"evidence_base_bits", report.evidence_base_bits},
            {"evidence_mixture_bits", report.evidence_mixture_bits},
            {"bound_bits", report.bound_bits},
            {"answer_bound_bits", report.answer_bound_bits},
            {"floor", report.floor},
            {"gradients_computed", report.gradients_computed},
            {"seconds", seconds_json(report.seconds)},
            {"note", report.note},
            {"base_hash", report.base_hash}}}};
}

void print_report(const Completion& completion, const SamplingOptions& sampling) {
  const Report& report = completion.report;
  remark("\n--- what was decided\n");
  if (!report.note.empty()) remark("{}\n", report.note);
  for (const auto& [path, ordinal, score, in_context] : report.neighbours)
    remark("neighbour {:>7}  {} #{}{}\n", score_text(report.retrieval, score), one_line(path), ordinal,
           in_context ? "  (read as context)" : "");
  for (const auto& [name, prior, weight] : report.experts)
    remark("weight {:.3f} (prior {:.3f})  {}\n", weight, prior, name);
  if (report.evidence_tokens > 0)
    remark("evidence: {} prompt tokens took {:.1f} bits, the base {:.1f}; never more than {} longer\n",
           report.evidence_tokens, report.evidence_mixture_bits, report.evidence_base_bits,
           rounded_up(report.bound_bits, 1));
  else if (report.experts.size() > 1)
    remark("evidence: none, the prompt has no block that can be judged (--block-tokens); weights are the prior\n");
  remark("bound: {}every token keeps at least {} x the base's probability, these {} take at most {} bits more\n",
         sampling.temperature > 0 ? "before --temperature, --top-k and --top-p " : "", report.floor,
         completion.tokens.size(), rounded_up(report.answer_bound_bits, 1));
  remark("first token after {:.2f} s, then {:.1f} tokens/s;", completion.seconds_to_first_token,
         completion.tokens_per_second);
  for (const auto& [stage, seconds] : report.seconds) remark(" {} {:.2f} s", stage, seconds);
  remark("; {} gradients computed\n", report.gradients_computed);
}

void run_complete(const CompleteArguments& arguments) {
  const std::string text = arguments.prompt == "-" ? read_standard_input() : arguments.prompt;
  const auto model = arguments.model.open();
  const std::vector<Token> prompt = prompt_tokens(arguments, text, *model);
  std::optional<Store> store;
  if (!arguments.store.empty()) store = Store::open(arguments.store, {model->name(), model->base_hash()});
  const Watch watch{.progress = {}, .cancel = terminal_watch(true).cancel};
  const auto stream = [&](std::string_view piece) {
    if (arguments.json) return;
    fmt::print("{}", piece);
    flush_standard_output();
  };
  SessionOptions session_options = arguments.session;
  if (store) session_options.encoder = encoder_for(*store, session_options.retrieval, arguments.encoder);
  Session session(model, store ? &*store : nullptr, session_options);
  const Completion adapted = session.complete(prompt, arguments.sampling, watch, stream);
  nlohmann::json object = completion_json(adapted);
  if (!arguments.json) {
    fmt::print("\n");
    if (!arguments.quiet) print_report(adapted, arguments.sampling);
  }
  if (arguments.base) {
    if (!arguments.json) fmt::print("\n--- the base's answer\n");
    const Completion base = complete_with_base(*model, prompt, arguments.sampling, watch, stream);
    if (!arguments.json) fmt::print("\n");
    object["base"] = {{"text", base.text},
                      {"tokens", base.tokens},
                      {"seconds_to_first_token", base.seconds_to_first_token},
                      {"tokens_per_second", base.tokens_per_second}};
  }
  if (arguments.json) print_json(object);
}

}  // namespace

void add_complete(Command program) {
  auto arguments = std::make_shared<CompleteArguments>();
  const Command command = program.subcommand("complete", "Continue a prompt with the model adapted to it");
  arguments->model.add_to(command);
  command.option("PROMPT", arguments->prompt, "The prompt; - reads it from standard input").required();
  command.option("--store", arguments->store, "A store made by `hone index`");
  command.flag("--chat", arguments->chat, "Wrap the prompt in the model's own chat template");
  command.option("--template", arguments->chat_template, "Wrap it in this one: chatml, gemma or llama3")
      .one_of({"chatml", "gemma", "llama3"});
  SamplingOptions& sampling = arguments->sampling;
  command.option("-n,--max-tokens", sampling.max_tokens, "Most tokens in the answer").shows_default();
  command.option("--temperature", sampling.temperature, "0: the most likely token").shows_default();
  const std::vector<Option> of_sampling = {
      command.option("--top-k", sampling.top_k, "Only the k most likely tokens; 0: all").shows_default(),
      command.option("--top-p", sampling.top_p, "Only the likeliest tokens of this mass").shows_default(),
      command.option("--seed", sampling.seed, "Of the sampling").shows_default()};
  command.option("--stop", sampling.stop, "End the answer before this text (repeatable)").one_value_each();
  const SessionOptionGroups groups = add_session_options(command, arguments->session, arguments->encoder);
  command.flag("--base", arguments->base, "Print the unadapted model's answer too");
  command.flag("--json", arguments->json, "Print one JSON object");
  command.flag("--quiet", arguments->quiet, "Print the answer only");
  command.callback([arguments, groups, of_sampling] {
    if (arguments->sampling.temperature == 0 && any_given(of_sampling))
      refuse_usage("--top-k, --top-p and --seed require --temperature above 0: at 0 the likeliest token is taken");
    if (arguments->store.empty() && (any_given(groups.of_store) || any_given(groups.of_answer)))
      refuse_usage("without --store the base answers alone: options of neighbours, steps and experts require it");
    require_vectors_for_encoder(arguments->session.retrieval, arguments->encoder);
    require_what_steps_need(arguments->session, groups.steps);
    run_complete(*arguments);
  });
}

}  // namespace hone::cli
