// The evaluation's tables: what is in them, that their figures agree with one another, and that no text is its own
// help.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <set>

#include "adapt/gradients.h"
#include "base/files.h"
#include "tests/data.h"
#include "tests/expect_error.h"
#include "tests/small_store.h"

namespace hone::test::evaluation_test {
namespace {

const std::string held_out_text = prose(0, 14, 77);

EvaluationOptions small_options(Protocol protocol) {
  EvaluationOptions options;
  options.protocol = protocol;
  options.offset = 10;
  options.prefix = 64;
  options.continuation = 48;
  options.session.neighbours = 4;
  options.session.context_neighbours = 1;
  options.session.block_tokens = 16;
  options.published_neighbours = 3;
  return options;
}

std::vector<std::string> names(const EvaluationTable& table) {
  std::vector<std::string> result;
  for (const EvaluationRow& row : table.rows) result.push_back(row.name);
  return result;
}

const EvaluationRow& row(const EvaluationTable& table, const std::string& name) {
  const auto at = std::ranges::find(table.rows, name, &EvaluationRow::name);
  if (at == table.rows.end()) throw std::runtime_error("no row " + name);
  return *at;
}

double total(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

// Whatever was measured, these hold.
void expect_consistent(const Evaluation& evaluation) {
  ASSERT_EQ(evaluation.tables.size(), 2U);
  EXPECT_EQ(evaluation.tables[0].neighbours, "all");
  EXPECT_EQ(evaluation.tables[1].neighbours, "without near-duplicates");
  EXPECT_EQ(names(evaluation.tables[0]), names(evaluation.tables[1]));
  for (const EvaluationTable& table : evaluation.tables) {
    const EvaluationRow& base = row(table, "base");
    EXPECT_EQ(base.bits, row(evaluation.tables[0], "base").bits);
    for (const EvaluationRow& each : table.rows) {
      ASSERT_EQ(each.bits.size(), evaluation.windows) << each.name;
      std::vector<double> gains;
      size_t worse = 0;
      double harm = 0;
      for (size_t w = 0; w < each.bits.size(); ++w) {
        gains.push_back(1 - each.bits[w] / base.bits[w]);
        worse += each.bits[w] > base.bits[w] ? 1 : 0;
        harm = std::max(harm, each.bits[w] - base.bits[w]);
      }
      EXPECT_NEAR(each.gain.mean, total(gains) / static_cast<double>(gains.size()), 1e-12) << each.name;
      EXPECT_LE(each.gain.low, each.gain.mean + 1e-12);
      EXPECT_GE(each.gain.high, each.gain.mean - 1e-12);
      EXPECT_NEAR(each.gain_median, decide::median(gains), 1e-12);
      EXPECT_NEAR(each.gain_corpus, 1 - total(each.bits) / total(base.bits), 1e-12);
      EXPECT_NEAR(each.bpb / base.bpb, total(each.bits) / total(base.bits), 1e-12);
      EXPECT_EQ(each.worse, worse) << each.name;
      EXPECT_EQ(each.harm_bits_max, harm) << each.name;
      const bool promises = each.name.starts_with("mixture") || each.name == "complete";
      EXPECT_EQ(each.bound_bits >= 0, promises) << each.name;
      if (promises) {
        EXPECT_LE(each.harm_bits_max, each.bound_bits + 1e-6) << each.name;
      }
    }
  }
}

class Evaluate : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared = std::make_unique<SmallStore>(Model::open(tiny_model("llama")), 60);
    shared->folder.write("held/out.txt", held_out_text);
    shared->folder.write("held/other.txt", prose(1, 30, 78));
    shared->folder.write("held/short.txt", "The ferry.");
  }
  static void TearDownTestSuite() { shared.reset(); }
  static std::filesystem::path held(const std::string& name) { return shared->folder.path() / "held" / name; }
  static Evaluation run(const EvaluationOptions& options, const std::vector<std::filesystem::path>& files,
                        const Watch& watch = {}) {
    return evaluate(shared->model, *shared->store, files, options, watch);
  }

  static std::unique_ptr<SmallStore> shared;
};

std::unique_ptr<SmallStore> Evaluate::shared;

TEST_F(Evaluate, ContinuationProtocol) {
  EvaluationOptions options = small_options(Protocol::continuation);
  options.windows = 2;
  const Evaluation evaluation = run(options, {held("out.txt"), held("short.txt"), held("other.txt")});
  EXPECT_EQ(evaluation.protocol, "continue");
  EXPECT_EQ(names(evaluation.tables[0]),
            (std::vector<std::string>{"base", "in-context", "published", "one-step", "mixture", "mixture-context-only",
                                      "mixture-with-context"}));
  EXPECT_GE(evaluation.windows, 3U);
  EXPECT_EQ(evaluation.tokens, evaluation.windows * 48);
  ASSERT_EQ(evaluation.skipped.size(), 1U);
  EXPECT_NE(evaluation.skipped[0].find("short.txt"), std::string::npos);
  EXPECT_NE(evaluation.skipped[0].find("tokens"), std::string::npos);
  expect_consistent(evaluation);

  const Evaluation again = run(options, {held("out.txt"), held("short.txt"), held("other.txt")});
  for (size_t t = 0; t < 2; ++t)
    for (size_t r = 0; r < again.tables[t].rows.size(); ++r)
      EXPECT_EQ(again.tables[t].rows[r].bits, evaluation.tables[t].rows[r].bits) << again.tables[t].rows[r].name;
}

TEST_F(Evaluate, BaseBitsAreThoseOfAPlainForwardPass) {
  const Evaluation evaluation = run(small_options(Protocol::continuation), {held("out.txt")});
  std::vector<Token> tokens = shared->model->tokenizer().encode(held_out_text);
  const std::vector<Token> window(tokens.begin() + 10, tokens.begin() + 10 + 64 + 48);
  const Sequence sequence{window};
  const Matrix hidden = shared->model->forward({&sequence, 1});
  double bits = 0;
  for (const float loss : shared->model->losses(hidden.view().row_range(63, 48), std::span(window).subspan(64)))
    bits += loss / std::numbers::ln2;
  EXPECT_NEAR(row(evaluation.tables[0], "base").bits.front(), bits, 1e-9);
}

TEST_F(Evaluate, CompleteProtocolIsWhatASessionDoes) {
  const EvaluationOptions options = small_options(Protocol::complete);
  const Evaluation evaluation = run(options, {held("out.txt")});
  EXPECT_EQ(evaluation.protocol, "complete");
  EXPECT_EQ(names(evaluation.tables[0]), (std::vector<std::string>{"base", "complete"}));
  expect_consistent(evaluation);

  const std::vector<Token> tokens = shared->model->tokenizer().encode(held_out_text);
  Session session(shared->model, shared->store.get(), options.session);
  const Session::Scored scored =
      session.score_continuation(std::span(tokens).subspan(10, 64), std::span(tokens).subspan(74, 48));
  EXPECT_NEAR(row(evaluation.tables[0], "complete").bits[0], total(scored.mixture) / std::numbers::ln2, 1e-6);
  EXPECT_NEAR(row(evaluation.tables[0], "base").bits[0], total(scored.base) / std::numbers::ln2, 1e-6);
}

TEST_F(Evaluate, ScoreProtocolScoresTheWholeWindow) {
  const Evaluation evaluation = run(small_options(Protocol::score), {held("out.txt")});
  EXPECT_EQ(evaluation.protocol, "score");
  EXPECT_EQ(evaluation.tokens, 64 + 48 - 1U);  // without BOS nothing predicts the first
  expect_consistent(evaluation);

  EvaluationOptions as_published = small_options(Protocol::score);
  as_published.published_neighbours = 0;
  const Evaluation more = run(as_published, {held("out.txt")});
  EXPECT_NE(row(more.tables[0], "published").settings.find("50 neighbours"), std::string::npos);
  EXPECT_NE(row(more.tables[0], "published").bits, row(evaluation.tables[0], "published").bits);
  EXPECT_EQ(row(more.tables[0], "one-step").bits, row(evaluation.tables[0], "one-step").bits);

  const SmallStore gemma(Model::open(tiny_model("gemma3")), 60);
  const Evaluation with_bos = evaluate(gemma.model, *gemma.store, {held("out.txt")}, small_options(Protocol::score));
  EXPECT_EQ(with_bos.tokens, 64 + 48U);
  expect_consistent(with_bos);
}

TEST_F(Evaluate, FewerExpertsAndSteps) {
  EvaluationOptions options = small_options(Protocol::continuation);
  options.run_published = false;
  options.session.context_neighbours = 0;
  options.session.neighbour_steps = {1e-4F};
  options.session.prompt_steps.clear();
  const Evaluation evaluation = run(options, {held("out.txt")});
  EXPECT_EQ(names(evaluation.tables[0]),
            (std::vector<std::string>{"base", "one-step", "mixture", "mixture-context-only", "mixture-with-context"}));
  expect_consistent(evaluation);
  EXPECT_EQ(row(evaluation.tables[0], "mixture-context-only").bits, row(evaluation.tables[0], "base").bits);
}

TEST_F(Evaluate, OneStepIsTheNearestByRatio) {
  EvaluationOptions options = small_options(Protocol::continuation);
  options.run_published = false;
  options.session.neighbour_steps = {1e-5F, 8e-4F};
  const EvaluationRow nearest = row(run(options, {held("out.txt")}).tables[0], "one-step");
  EXPECT_NE(nearest.settings.find("step 0.0008,"), std::string::npos) << nearest.settings;
  options.session.neighbour_steps = {8e-4F};
  EXPECT_EQ(nearest.bits, row(run(options, {held("out.txt")}).tables[0], "one-step").bits);
  options.session.neighbour_steps.clear();
  const std::vector<std::string> without = names(run(options, {held("out.txt")}).tables[0]);
  EXPECT_EQ(std::ranges::count(without, std::string("one-step")), 0);
}

// Where nothing is read as text, as none is asked for or none is found, both mixtures hold the same experts.
TEST_F(Evaluate, WithoutContextBothMixturesAreTheSame) {
  std::string strange;
  for (int i = 0; i < 40; ++i) strange += "zqx" + std::to_string(i) + " ";
  shared->folder.write("held/strange.txt", strange);
  for (const size_t context_neighbours : {0, 1}) {
    EvaluationOptions options = small_options(Protocol::continuation);
    options.run_published = false;
    options.session.context_neighbours = context_neighbours;
    const Evaluation evaluation = run(options, {held(context_neighbours == 0 ? "out.txt" : "strange.txt")});
    expect_consistent(evaluation);
    const EvaluationTable& table = evaluation.tables[0];
    EXPECT_EQ(table.without_neighbours, context_neighbours);
    EXPECT_EQ(row(table, "mixture-with-context").bits, row(table, "mixture").bits);
    EXPECT_EQ(row(table, "mixture-with-context").bound_bits, row(table, "mixture").bound_bits);
  }
}

TEST_F(Evaluate, ReportsTheProgressOfWindowsOnly) {
  for (const Protocol protocol : {Protocol::continuation, Protocol::score, Protocol::complete}) {
    std::set<std::string> stages;
    const Watch watch{.progress = [&](const Progress& progress) { stages.emplace(progress.stage); }, .cancel = {}};
    run(small_options(protocol), {held("out.txt")}, watch);
    EXPECT_EQ(stages, std::set<std::string>{"evaluate"});
  }
}

TEST_F(Evaluate, ExplodingStepsStayWithinTheBound) {
  for (const Protocol protocol : {Protocol::continuation, Protocol::score, Protocol::complete}) {
    EvaluationOptions options = small_options(protocol);
    options.run_published = false;
    options.session.neighbour_steps = options.session.context_steps = options.session.prompt_steps = {1e3F, 1e30F};
    expect_consistent(run(options, {held("out.txt")}));
  }
}

// A real model on articles of its language, with experts that help, harm and explode.
TEST(EvaluateWikitext, SlowRealTextsStayWithinTheBoundAndAboveTheFloor) {
  HONE_NEED_FILE(smollm2());
  const std::filesystem::path file = data_directory() / "wikitext2" / "wiki.test.raw";
  HONE_NEED_FILE(file);
  const std::string wikitext = read_file(file);
  constexpr size_t piece = 6000;
  std::map<std::string, std::string> indexed;
  for (size_t i = 0; i < 6; ++i) indexed["wiki" + std::to_string(i) + ".txt"] = wikitext.substr(2 * i * piece, piece);
  const SmallStore store(Model::open(smollm2(), {.precision = Precision::int8}), 128,
                         {.preconditioner_chunks = 4, .pairs = 2, .neighbours = 2}, indexed);
  std::vector<std::filesystem::path> held;
  for (size_t i = 0; i < 3; ++i)
    held.push_back(
        store.folder.write("held/" + std::to_string(i) + ".txt", wikitext.substr((2 * i + 1) * piece, piece)));

  EvaluationOptions options = small_options(Protocol::continuation);
  options.run_published = false;
  options.prefix = 128;
  options.session.neighbour_steps = {1e-4F, -1e-2F, 1, 1e3F, 1e30F};
  options.session.prompt_steps = {1e-4F, -1e-2F, 1e3F};
  options.session.context_steps = {1e-4F, -1e-2F, 1e3F};
  for (const Protocol protocol : {Protocol::continuation, Protocol::complete}) {
    options.protocol = protocol;
    const Evaluation evaluation = evaluate(store.model, *store.store, held, options);
    EXPECT_EQ(evaluation.windows, held.size());
    expect_consistent(evaluation);
  }
  for (const std::filesystem::path& path : held) {
    Session session(store.model, store.store.get(), options.session);
    const std::vector<Token> tokens = store.model->tokenizer().encode(read_file(path));
    const Session::Scored scored =
        session.score_continuation(std::span(tokens).first(200), std::span(tokens).subspan(200, 60));
    for (size_t t = 0; t < scored.base.size(); ++t)
      EXPECT_LE(scored.mixture[t], scored.base[t] - std::log(options.session.floor) + 1e-6) << path << ' ' << t;
  }
}

TEST_F(Evaluate, WhatCannotBeEvaluated) {
  const EvaluationOptions options = small_options(Protocol::continuation);
  HONE_EXPECT_ERROR(run(options, {held("short.txt")}), ErrorCode::bad_input, "--offset");
  HONE_EXPECT_ERROR(run(options, {}), ErrorCode::bad_input, "no file");
  HONE_EXPECT_ERROR(run(options, {held("absent.txt")}), ErrorCode::not_found, "absent.txt");
  EvaluationOptions no_prefix = options, no_continuation = options, no_windows = options;
  no_prefix.prefix = 1;
  no_continuation.continuation = 1;
  no_windows.windows = 0;
  for (const EvaluationOptions& wrong : {no_prefix, no_continuation, no_windows})
    HONE_EXPECT_ERROR(run(wrong, {held("out.txt")}), ErrorCode::bad_input, "at least");
  for (const auto member : {&EvaluationOptions::offset, &EvaluationOptions::prefix, &EvaluationOptions::continuation}) {
    EvaluationOptions huge = options;
    huge.*member = std::numeric_limits<size_t>::max();
    HONE_EXPECT_ERROR(run(huge, {held("out.txt")}), ErrorCode::bad_input, "2^32");
  }
  const Watch watch;
  watch.cancel.cancel();
  HONE_EXPECT_ERROR(run(options, {held("out.txt")}, watch), ErrorCode::cancelled, "");
}

TEST(EvaluateDuplicates, ACopyUnderAnotherNameHelpsInTheFirstTableOnly) {
  const SmallStore store(Model::open(tiny_model("llama")), 200, {}, {{"copy.txt", held_out_text}});
  const std::filesystem::path held_out = store.folder.write("held/out.txt", held_out_text);
  for (const Protocol protocol : {Protocol::continuation, Protocol::score, Protocol::complete}) {
    EvaluationOptions options = small_options(protocol);
    options.duplicate_share = 0.5;
    const Evaluation evaluation = evaluate(store.model, *store.store, {held_out}, options);
    expect_consistent(evaluation);
    EXPECT_GE(evaluation.tables[0].removed, 1U);
    EXPECT_GE(evaluation.tables[1].removed, evaluation.tables[0].removed);
    const std::string affected = protocol == Protocol::complete ? "complete" : "one-step";
    EXPECT_NE(row(evaluation.tables[0], affected).bits, row(evaluation.tables[1], affected).bits);

    // No share exceeds 1: nothing counts as a near-duplicate.
    options.duplicate_share = 1;
    const Evaluation kept = evaluate(store.model, *store.store, {held_out}, options);
    EXPECT_EQ(kept.tables[0].removed, 0U);
    for (size_t r = 0; r < kept.tables[0].rows.size(); ++r)
      EXPECT_EQ(kept.tables[0].rows[r].bits, kept.tables[1].rows[r].bits);
  }
}

// More copies than neighbours: one table uses some of them, the other passes over all.
TEST(EvaluateDuplicates, EveryoneThatIsPassedOverCounts) {
  std::string text;
  for (int i = 0; i < 16; ++i) text += "quartz" + std::to_string(i) + " ";
  std::map<std::string, std::string> copies;
  for (int c = 0; c < 6; ++c) copies["copy" + std::to_string(c)] = "copy " + std::to_string(c) + " of " + text;
  const SmallStore store(Model::open(tiny_model("llama")), 200, {}, copies);
  const std::filesystem::path held_out = store.folder.write("held/out.txt", text);
  for (const Protocol protocol : {Protocol::continuation, Protocol::complete}) {
    EvaluationOptions options = small_options(protocol);
    options.offset = 0;
    options.prefix = options.continuation = 32;
    options.run_published = false;
    const Evaluation evaluation = evaluate(store.model, *store.store, {held_out}, options);
    expect_consistent(evaluation);
    EXPECT_EQ(evaluation.tables[0].removed, 4U);
    EXPECT_EQ(evaluation.tables[1].removed, 6U);
    EXPECT_EQ(evaluation.tables[1].without_neighbours, 1U);
  }
}

// Windows with a bound each: the largest of those in a table, whatever another table's were.
TEST(EvaluateDuplicates, ATablesBoundIsOfItsOwnWindows) {
  const SmallStore store(Model::open(tiny_model("llama")), 200, {}, {{"copy.txt", held_out_text}});
  const std::filesystem::path copied = store.folder.write("held/out.txt", held_out_text);
  const std::filesystem::path fresh = store.folder.write("held/other.txt", prose(1, 30, 78));
  EvaluationOptions options = small_options(Protocol::complete);
  options.duplicate_share = 0.5;
  const auto bounds = [&](const std::vector<std::filesystem::path>& files) {
    const Evaluation evaluation = evaluate(store.model, *store.store, files, options);
    return std::array{row(evaluation.tables[0], "complete").bound_bits,
                      row(evaluation.tables[1], "complete").bound_bits};
  };
  const auto first = bounds({copied}), second = bounds({fresh}), both = bounds({copied, fresh});
  ASSERT_GT(first[0], std::max(first[1], second[1]));
  EXPECT_EQ(second[0], second[1]);
  for (size_t t = 0; t < 2; ++t) EXPECT_EQ(both[t], std::max(first[t], second[t]));
}

TEST(EvaluateDuplicates, AFilesOwnChunksAreNeverItsNeighbours) {
  const SmallStore store(Model::open(tiny_model("llama")), 200, {}, {{"own.txt", held_out_text}});
  EvaluationOptions options = small_options(Protocol::continuation);
  options.duplicate_share = 0.5;  // any chunk of its own would count as a near-duplicate
  const std::filesystem::path own = store.folder.path() / "texts" / "own.txt";
  const std::filesystem::path roundabout = store.folder.path() / "store" / ".." / "texts" / "own.txt";
  for (const std::filesystem::path& path : {own, roundabout}) {
    const Evaluation evaluation = evaluate(store.model, *store.store, {path}, options);
    expect_consistent(evaluation);
    EXPECT_EQ(evaluation.tables[0].removed, 0U) << path;
    EXPECT_EQ(row(evaluation.tables[0], "one-step").bits, row(evaluation.tables[1], "one-step").bits);
  }
}

TEST(EvaluateDuplicates, AFilesOwnChunksAreKnownFromEveryFolder) {
  const SmallStore store(Model::open(tiny_model("llama")), 200);
  store.folder.write("elsewhere/own.txt", held_out_text);
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(store.folder.path() / "elsewhere");
  store.store->index({"own.txt"}, store.model->tokenizer(), {.chunk_tokens = 200});
  std::filesystem::current_path(before);
  EvaluationOptions options = small_options(Protocol::continuation);
  options.duplicate_share = 0.5;
  const Evaluation evaluation =
      evaluate(store.model, *store.store, {store.folder.path() / "elsewhere" / "own.txt"}, options);
  EXPECT_EQ(evaluation.tables[0].removed, 0U);
  // Elsewhere it is another file, and teaches.
  store.folder.write("here/own.txt", held_out_text);
  std::filesystem::current_path(store.folder.path() / "here");
  const Evaluation other = evaluate(store.model, *store.store, {"own.txt"}, options);
  std::filesystem::current_path(before);
  EXPECT_GT(other.tables[0].removed, 0U);
}

// Of two neighbours the farther one; where not even the nearest fits, both, and the window is counted.
TEST(EvaluateContext, WhatDoesNotFitIsLeftOutAndCounted) {
  const auto model = Model::open(tiny_model("llama"));
  const auto context = static_cast<size_t>(model->config().context);
  const SmallStore store(model, context / 2, {}, {{"long.txt", prose(0, 200, 5)}});
  store.folder.write("held.txt", prose(0, 60, 77));
  for (const Protocol protocol : {Protocol::continuation, Protocol::complete})
    for (const size_t continuation : {size_t{48}, context / 2}) {
      EvaluationOptions options = small_options(protocol);
      options.session.context_neighbours = 2;
      options.continuation = continuation;
      const bool one_fits = continuation < context / 2;
      const Evaluation evaluation = evaluate(model, *store.store, {store.folder.path() / "held.txt"}, options);
      expect_consistent(evaluation);
      for (const EvaluationTable& table : evaluation.tables) {
        EXPECT_EQ(table.without_neighbours, 0U);
        EXPECT_EQ(table.without_context, one_fits ? 0U : 1U);
        if (protocol == Protocol::continuation) {
          EXPECT_EQ(row(table, "in-context").bits == row(table, "base").bits, !one_fits);
        }
      }
    }
  Session session(model, store.store.get(), [] {
    SessionOptions options;
    options.context_neighbours = 2;
    return options;
  }());
  const std::vector<Token> prompt = model->tokenizer().encode(prose(0, 4, 78));
  const Completion answer = session.complete(prompt, {.max_tokens = 2});
  EXPECT_EQ(std::ranges::count(answer.report.neighbours, true, &Report::Source::in_context), 1);
  EXPECT_NE(answer.report.note.find("1 of 2 neighbours were read"), std::string::npos) << answer.report.note;
  EXPECT_EQ(evaluate(model, *store.store, {store.folder.path() / "held.txt"},
                     [] {
                       EvaluationOptions options = small_options(Protocol::continuation);
                       options.session.context_neighbours = 0;
                       return options;
                     }())
                .tables[0]
                .without_context,
            0U);
}

}  // namespace
}  // namespace hone::test::evaluation_test
