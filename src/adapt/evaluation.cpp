#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <numbers>
#include <numeric>
#include <set>

#include "adapt/lesson.h"
#include "adapt/near_duplicates.h"
#include "adapt/stopwatch.h"
#include "base/files.h"

namespace hone {
namespace {

// A stretch of a file: retrieval sees `prefix`, `continuation` is scored.
struct Window {
  std::filesystem::path file;
  std::vector<Token> prefix, continuation;
};

std::string resolved(const std::filesystem::path& path) {
  std::error_code ignored;
  const std::filesystem::path result = std::filesystem::weakly_canonical(path, ignored);
  return ignored ? path.string() : result.string();
}

std::vector<Window> cut_windows(const Model& model, const std::vector<std::filesystem::path>& files,
                                const EvaluationOptions& options, std::vector<std::string>& skipped) {
  std::vector<Window> windows;
  const size_t length = options.prefix + options.continuation;
  for (const std::filesystem::path& file : files) {
    const std::vector<Token> tokens = model.tokenizer().encode(read_file(file));
    if (tokens.size() < length || tokens.size() - length < options.offset) {
      skipped.push_back(
          fmt::format("{}: {} tokens, a window ends at {}", file.string(), tokens.size(), options.offset + length));
      continue;
    }
    for (size_t w = 0; w < options.windows; ++w) {
      const size_t begin = options.offset + w * length;
      if (begin + length > tokens.size()) break;
      const auto at = tokens.begin() + static_cast<ptrdiff_t>(begin);
      const auto middle = at + static_cast<ptrdiff_t>(options.prefix);
      windows.push_back({file, {at, middle}, {middle, at + static_cast<ptrdiff_t>(length)}});
    }
  }
  return windows;
}

double bits(std::span<const float> losses) {
  double total = 0;
  for (const float loss : losses) total += loss / std::numbers::ln2;
  return total;
}

// The mixture of the chosen experts over a window, given every expert's losses [experts, tokens].
double mixture_bits(const Matrix& losses, const std::vector<size_t>& chosen, const std::vector<double>& prior,
                    decide::Sharing sharing) {
  decide::Mixture mixture(prior, sharing);
  std::vector<double> log_probs(chosen.size());
  double total = 0;
  for (size_t t = 0; t < losses.cols(); ++t) {
    for (size_t j = 0; j < chosen.size(); ++j) log_probs[j] = at_most_certain(-losses.row(chosen[j])[t]);
    total -= mixture.update(log_probs) / std::numbers::ln2;
  }
  return total;
}

// Indices of the experts of these families, in the panel's order.
std::vector<size_t> of_families(const std::vector<Expert>& experts, std::initializer_list<Family> families) {
  std::vector<size_t> chosen;
  for (size_t e = 0; e < experts.size(); ++e)
    if (std::ranges::find(families, experts[e].family) != families.end()) chosen.push_back(e);
  return chosen;
}

// Of the steps, the one whose ratio to `wanted` is nearest 1.
float nearest_step(const std::vector<float>& steps, float wanted) {
  return *std::ranges::min_element(steps, {}, [&](float step) { return std::abs(std::log(step / wanted)); });
}

// The row of that name, added at the end if the table has none.
EvaluationRow& row_of(EvaluationTable& table, const std::string& name, const std::string& settings) {
  for (EvaluationRow& existing : table.rows)
    if (existing.name == name) return existing;
  EvaluationRow& added = table.rows.emplace_back();
  added.name = name;
  added.settings = settings;
  return added;
}

// What a window had to learn from.
struct Retrieved {
  bool neighbours = false;
  bool context = false;  // false also where none was asked for, or it would not fit
};

class Evaluator {
 public:
  Evaluator(std::shared_ptr<const Model> model, const Store& store, const EvaluationOptions& options)
      : model_(std::move(model)),
        store_(store),
        options_(options),
        first_layer_(options.session.first_layer < 0 ? default_first_adapted_layer(*model_)
                                                     : options.session.first_layer),
        statistics_(load_statistics(*model_, store, first_layer_)) {
    options_.session.first_layer = first_layer_;
  }

  // The table of one window, with the neighbours that `admits` accepts.
  EvaluationTable run(const Window& window, const std::function<bool(const Chunk&)>& admits,
                      const CancelToken& cancel) {
    EvaluationTable table;
    const Retrieved retrieved = options_.protocol == Protocol::complete ? as_completed(window, admits, table, cancel)
                                                                        : as_scored(window, admits, table, cancel);
    table.without_neighbours = retrieved.neighbours ? 0 : 1;
    table.without_context =
        retrieved.neighbours && !retrieved.context && options_.session.context_neighbours > 0 ? 1 : 0;
    return table;
  }

  const std::vector<double>& window_bytes() const { return window_bytes_; }
  void add_bytes(const Window& window) {
    double bytes = 0;
    for (const Token token : window.continuation) bytes += static_cast<double>(model_->tokenizer().piece(token).size());
    window_bytes_.push_back(bytes);
  }

 private:
  Retrieved as_completed(const Window& window, const std::function<bool(const Chunk&)>& admits, EvaluationTable& table,
                         const CancelToken& cancel) {
    Session session(model_, &store_, options_.session);
    const Session::Scored scored =
        session.score_continuation(window.prefix, window.continuation, {.progress = {}, .cancel = cancel}, admits);
    const auto total = [](const std::vector<double>& losses) {
      double sum = 0;
      for (const double loss : losses) sum += loss / std::numbers::ln2;
      return sum;
    };
    row_of(table, "base", "no adaptation").bits.push_back(total(scored.base));
    EvaluationRow& complete =
        row_of(table, "complete", fmt::format("weights from the prompt, floor {:g}", options_.session.floor));
    complete.bits.push_back(total(scored.mixture));
    complete.bound_bits = scored.report.answer_bound_bits;
    for (const auto& [stage, seconds] : scored.report.seconds) seconds_of(complete.seconds, stage) += seconds;
    return {!scored.report.neighbours.empty(),
            std::ranges::any_of(scored.report.neighbours, &Report::Source::in_context)};
  }

  // A window as all experts of its lesson read it. What the experts have learned is gone: names and steps remain.
  struct ReadWindow {
    Lesson lesson;
    std::vector<Token> text;
    Matrix losses;  // [experts, continuation]
    std::vector<Expert> experts;
    StageSeconds seconds;
  };

  ReadWindow read_window(const Window& window, const std::function<bool(const Chunk&)>& admits,
                         const CancelToken& cancel) {
    const SessionOptions& session = options_.session;
    const Teacher teacher{*model_, &store_, statistics_, session};
    ReadWindow read;
    Lesson& lesson = read.lesson;
    {
      const Stopwatch stopwatch(read.seconds, "retrieve");
      teacher.find_neighbours(options_.protocol == Protocol::score ? window.continuation : window.prefix,
                              std::max({session.neighbours, session.context_neighbours,
                                        options_.run_published ? options_.published_neighbours : 0}),
                              admits, {}, lesson, cancel);
      teacher.fit_context(window.prefix.size() + window.continuation.size(), lesson);
      teacher.plan(window.prefix.size(), lesson);
    }
    std::vector<Reading> readings;
    readings.emplace_back(*model_, first_layer_);
    {
      const Stopwatch stopwatch(read.seconds, "gradients");
      teacher.learn_from_neighbours(lesson, {.progress = {}, .cancel = cancel});
      if (lesson.prompt_teaches) readings[plain_context].read(*model_, window.prefix, cancel);
      teacher.learn_from_prompt(window.prefix, readings[plain_context], lesson, cancel);
    }
    read.text = window.prefix;
    read.text.insert(read.text.end(), window.continuation.begin(), window.continuation.end());
    const std::span<const Token> text = read.text;
    const size_t first_scored = window.prefix.size();
    const size_t by_base = first_scored > 0 ? first_scored - 1 : 0;
    {
      const Stopwatch stopwatch(read.seconds, "experts");
      ExpertPanel panel = panel_of(*model_, first_layer_, lesson, experts_of(lesson, session), text.first(by_base),
                                   std::move(readings), cancel);
      read.losses = panel.read(text.subspan(by_base), first_scored - by_base);
      read.experts = panel.experts();
    }
    for (Expert& expert : read.experts) expert.adapter = nullptr;
    lesson.neighbour_direction = {};
    lesson.prompt_direction = {};
    return read;
  }

  Retrieved as_scored(const Window& window, const std::function<bool(const Chunk&)>& admits, EvaluationTable& table,
                      const CancelToken& cancel) {
    const SessionOptions& session = options_.session;
    const ReadWindow read = read_window(window, admits, cancel);
    const auto add = [&](const std::string& name, const std::string& settings, std::span<const size_t> experts) {
      row_of(table, name, settings).bits.push_back(bits(read.losses.row(experts.empty() ? 0 : experts.front())));
    };
    add("base", "no adaptation", {});
    if (session.context_neighbours > 0)
      add("in-context", fmt::format("{} neighbours, nearest last", session.context_neighbours),
          of_families(read.experts, {Family::context}));
    if (options_.run_published) add_published(window, read.text, read.lesson, table, cancel);
    if (session.neighbours > 0 && !session.neighbour_steps.empty()) {
      const float step = nearest_step(session.neighbour_steps, options_.one_step);
      std::vector<size_t> single = of_families(read.experts, {Family::neighbour_step});
      std::erase_if(single, [&](size_t e) { return read.experts[e].step != step; });
      add("one-step",
          fmt::format("{} neighbours, step {:g}, layers {}-{}", session.neighbours, step, first_layer_,
                      model_->config().layers - 1),
          single);
    }
    add_mixtures(read, window.continuation.size(), table);
    for (const auto& [stage, value] : read.seconds) seconds_of(table.rows.back().seconds, stage) += value;
    return {!read.lesson.neighbours.empty(), !read.lesson.context.empty()};
  }

  void add_mixtures(const ReadWindow& read, size_t tokens, EvaluationTable& table) const {
    const decide::Sharing sharing = options_.session.sharing;
    const auto mixture = [&](const std::string& name, const std::string& settings, const std::vector<size_t>& chosen,
                             const std::vector<double>& prior) {
      EvaluationRow& to = row_of(table, name, settings);
      to.bits.push_back(mixture_bits(read.losses, chosen, prior, sharing));
      to.bound_bits = decide::Mixture(prior, sharing).bound_bits(tokens);
    };
    // Half of the prior is the base's, all of it where there are no others.
    const auto beside_base = [&](const std::string& name, const std::string& settings, std::vector<size_t> others) {
      std::vector<double> prior(1 + others.size(), others.empty() ? 1 : .5 / static_cast<double>(others.size()));
      if (!others.empty()) prior.front() = .5;
      others.insert(others.begin(), 0);
      mixture(name, settings, others, prior);
    };
    const std::vector<size_t> steps = of_families(read.experts, {Family::prompt_step, Family::neighbour_step});
    const std::string shared = sharing == decide::Sharing::bayes ? "Bayes" : "fixed share 1/(t+1)";
    beside_base("mixture", fmt::format("base + {} steps, {}", steps.size(), shared), steps);
    beside_base("mixture-context-only", fmt::format("base + in-context, {}", shared),
                of_families(read.experts, {Family::context}));
    std::vector<size_t> all(read.experts.size());
    std::iota(all.begin(), all.end(), 0);
    mixture("mixture-with-context", fmt::format("all {} experts, {}", all.size(), shared), all, priors(read.experts));
  }

  void add_published(const Window& window, std::span<const Token> text, const Lesson& lesson, EvaluationTable& table,
                     const CancelToken& cancel) {
    const PublishedOptions& published = options_.published;
    EvaluationRow& to = row_of(table, "published",
                               fmt::format("LoRA rank {}, layers {}-{}, Adam {:g}, {} neighbours, one step each",
                                           published.rank, published.first_layer, model_->config().layers - 1,
                                           published.learning_rate, options_.published_neighbours));
    const Stopwatch stopwatch(to.seconds, "adapt and score");
    std::vector<std::vector<Token>> neighbours;
    for (const Chunk& chunk : lesson.neighbours)
      if (neighbours.size() < options_.published_neighbours) neighbours.push_back(chunk.tokens);
    const Adapter adapter = published_protocol(*model_, neighbours, published, {.progress = {}, .cancel = cancel});
    ExpertPanel panel(*model_, published.first_layer, cancel);
    const size_t plain = panel.add_context({});
    panel.add_expert({"published", plain, &adapter, 1, 1});
    to.bits.push_back(bits(panel.read(text, window.prefix.size()).row(0)));
    if (!std::isfinite(to.bits.back()))
      throw Error(ErrorCode::bad_input,
                  fmt::format("the published protocol diverges at a learning rate of {:g}: its losses are no longer "
                              "finite; give a lower --published-rate, or --no-published",
                              published.learning_rate));
  }

  std::shared_ptr<const Model> model_;
  const Store& store_;
  EvaluationOptions options_;
  int first_layer_;
  CorpusStatistics statistics_;
  std::vector<double> window_bytes_;
};

void append(const EvaluationTable& window, EvaluationTable& table) {
  table.without_neighbours += window.without_neighbours;
  table.without_context += window.without_context;
  for (const EvaluationRow& from : window.rows) {
    EvaluationRow& to = row_of(table, from.name, from.settings);
    to.bits.push_back(from.bits.front());
    to.bound_bits = std::max(to.bound_bits, from.bound_bits);
    for (const auto& [stage, seconds] : from.seconds) seconds_of(to.seconds, stage) += seconds;
  }
}

// `runs`: windows whose seconds are in the rows.
void summarize(EvaluationTable& table, const std::vector<double>& window_bytes, size_t runs) {
  const std::vector<double> base = table.rows.front().bits;
  double bytes = 0, base_total = 0;
  for (const double b : window_bytes) bytes += b;
  for (const double b : base) base_total += b;
  const auto gains = [&](const EvaluationRow& row) {
    std::vector<double> result;
    for (size_t w = 0; w < base.size(); ++w) result.push_back(1 - row.bits[w] / base[w]);
    return result;
  };
  const EvaluationRow *with_context = nullptr, *context_only = nullptr;
  for (EvaluationRow& row : table.rows) {
    const std::vector<double> gain = gains(row);
    double total = 0;
    for (size_t w = 0; w < base.size(); ++w) {
      total += row.bits[w];
      if (row.bits[w] > base[w]) ++row.worse;
      row.harm_bits_max = std::max(row.harm_bits_max, row.bits[w] - base[w]);
    }
    row.bpb = total / bytes;
    row.gain = decide::bootstrap_mean(gain);
    row.gain_median = decide::median(gain);
    row.gain_corpus = 1 - total / base_total;
    for (auto& [stage, seconds] : row.seconds) seconds /= static_cast<double>(std::max<size_t>(runs, 1));
    if (row.name == "mixture-with-context") with_context = &row;
    if (row.name == "mixture-context-only") context_only = &row;
  }
  if (!with_context || !context_only) return;
  std::vector<double> difference = gains(*with_context);
  const std::vector<double> other = gains(*context_only);
  for (size_t w = 0; w < difference.size(); ++w) difference[w] -= other[w];
  table.with_context_minus_context_only = decide::bootstrap_mean(difference);
}

}  // namespace

Evaluation evaluate(std::shared_ptr<const Model> model, const Store& store,
                    const std::vector<std::filesystem::path>& files, const EvaluationOptions& options,
                    const Watch& watch) {
  EvaluationOptions checked = options;
  if (checked.protocol == Protocol::score) {
    checked.continuation += checked.prefix;
    checked.prefix = 0;
  }
  if (checked.published_neighbours == 0)
    checked.published_neighbours = checked.protocol == Protocol::score ? 50 : checked.session.neighbours;
  constexpr size_t most = size_t{1} << 32;
  if (options.offset > most || options.prefix > most || options.continuation > most || options.windows > most)
    throw Error(ErrorCode::bad_input, "offset, prefix, continuation and windows are at most 2^32");
  if (checked.continuation < 2 || (checked.protocol != Protocol::score && checked.prefix < 2) || checked.windows < 1)
    throw Error(ErrorCode::bad_input, "prefix and continuation need at least 2 tokens each, windows at least 1");

  Evaluation result;
  result.protocol = checked.protocol == Protocol::score      ? "score"
                    : checked.protocol == Protocol::complete ? "complete"
                                                             : "continue";
  std::vector<Window> windows = cut_windows(*model, files, checked, result.skipped);
  if (windows.empty())
    throw Error(ErrorCode::bad_input,
                fmt::format("no file has the {} tokens that a window needs; lower --offset, --prefix or --continuation",
                            checked.offset + checked.prefix + checked.continuation));
  // Without BOS nothing predicts a text's first token: it is read, and the rest is scored.
  if (checked.protocol == Protocol::score && model->encode("").empty())
    for (Window& window : windows) {
      window.prefix = {window.continuation.front()};
      window.continuation.erase(window.continuation.begin());
    }
  Evaluator evaluator(std::move(model), store, checked);
  result.tables.resize(2);
  result.tables[0].neighbours = "all";
  result.tables[1].neighbours = "without near-duplicates";
  size_t with_duplicates = 0;
  for (size_t w = 0; w < windows.size(); ++w) {
    watch.report("evaluate", w, windows.size());
    const Window& window = windows[w];
    const std::string self = resolved(window.file);
    const TextGrams scored(window.continuation);
    evaluator.add_bytes(window);
    result.tokens += window.continuation.size();

    std::set<int64_t> used, passed_over;  // near-duplicates
    const auto is_its_own = [&](const Chunk& chunk) { return resolved(chunk.location) == self; };
    const auto is_duplicate = [&](const Chunk& chunk) {
      return scored.share_in(chunk.tokens) > checked.duplicate_share;
    };
    const auto not_itself = [&](const Chunk& chunk) {
      if (is_its_own(chunk)) return false;
      if (is_duplicate(chunk)) used.insert(chunk.id);
      return true;
    };
    const auto not_duplicate = [&](const Chunk& chunk) {
      if (is_its_own(chunk)) return false;
      if (!is_duplicate(chunk)) return true;
      passed_over.insert(chunk.id);
      return false;
    };
    EvaluationTable of_window = evaluator.run(window, not_itself, watch.cancel);
    append(of_window, result.tables[0]);
    if (!used.empty()) {
      ++with_duplicates;
      of_window = evaluator.run(window, not_duplicate, watch.cancel);
    } else {
      for (EvaluationRow& row : of_window.rows) row.seconds.clear();
    }
    append(of_window, result.tables[1]);
    result.tables[0].removed += used.size();
    result.tables[1].removed += passed_over.size();
  }
  watch.report("evaluate", windows.size(), windows.size());
  result.windows = windows.size();
  summarize(result.tables[0], evaluator.window_bytes(), windows.size());
  summarize(result.tables[1], evaluator.window_bytes(), with_duplicates);
  return result;
}

}  // namespace hone
