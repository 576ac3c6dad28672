// One request's life on a tiny model: what it answers, what it reports, what it can never do, and what it leaves
// behind.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numbers>

#include "adapt/lesson.h"
#include "base/files.h"
#include "model/gguf.h"
#include "tests/data.h"
#include "tests/expect_error.h"
#include "tests/small_store.h"

namespace hone::test::session_test {
namespace {

constexpr float infinite = std::numeric_limits<float>::infinity();

SamplingOptions greedy(size_t max_tokens) { return {.max_tokens = max_tokens, .stop = {}}; }
SamplingOptions sampled(size_t max_tokens, uint64_t seed) {
  return {.max_tokens = max_tokens, .temperature = 1, .seed = seed, .stop = {}};
}

// The tiny model with finite weights so large that its logits are not.
std::shared_ptr<const Model> overflowing_model() {
  const std::filesystem::path path = tiny_model("llama");
  const Gguf layout = Gguf::open(path);
  const GgufTensor& scales = *layout.find_tensor("output_norm.weight");
  const std::vector<float> huge(scales.cols(), 3e38F);
  std::string bytes = read_file(path);
  std::memcpy(bytes.data() + (scales.bytes.data() - layout.bytes().data()), huge.data(), scales.bytes.size());
  const TemporaryFolder folder;
  return Model::open(folder.write("model.gguf", bytes));
}

class SessionTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { shared = std::make_unique<SmallStore>(Model::open(tiny_model("llama"))); }
  static void TearDownTestSuite() { shared.reset(); }

  static SessionOptions small_options() {
    SessionOptions options;
    options.neighbours = 4;
    options.context_neighbours = 2;
    options.block_tokens = 16;
    options.judged_blocks = 1000;
    return options;
  }
  std::vector<Token> encode(std::string_view text) const { return model->tokenizer().encode(text); }
  std::vector<Token> prompt(size_t tokens) const { return prose_tokens(*model, tokens); }
  Session session(const SessionOptions& options = small_options()) const {
    return Session(model, shared->store.get(), options);
  }

  static std::unique_ptr<SmallStore> shared;
  std::shared_ptr<const Model> model = shared->model;
};

std::unique_ptr<SmallStore> SessionTest::shared;

void expect_same_answer(const Completion& a, const Completion& b) {
  EXPECT_EQ(a.text, b.text);
  EXPECT_EQ(a.tokens, b.tokens);
  ASSERT_EQ(a.report.experts.size(), b.report.experts.size());
  for (size_t e = 0; e < a.report.experts.size(); ++e)
    EXPECT_EQ(a.report.experts[e].weight, b.report.experts[e].weight) << a.report.experts[e].name;
}

TEST_F(SessionTest, AtMostSoManyExpertsAnswer) {
  SessionOptions options = small_options();
  options.answering_experts = 100;
  const Completion everyone = session(options).complete(prompt(60), greedy(4));
  std::vector<double> others;
  for (size_t e = 1; e < everyone.report.experts.size(); ++e) others.push_back(everyone.report.experts[e].weight);
  std::ranges::sort(others, std::greater());
  ASSERT_GT(others[2], 0) << "three experts have weight";
  for (const size_t most : {0, 1, 2}) {
    options.answering_experts = most;
    const Completion some = session(options).complete(prompt(60), greedy(4));
    size_t answering = 0;
    double total = 0;
    for (size_t e = 0; e < some.report.experts.size(); ++e) {
      const double weight = some.report.experts[e].weight;
      total += weight;
      if (weight == 0 || e == 0) continue;
      ++answering;
      EXPECT_GE(everyone.report.experts[e].weight, others[most - 1]) << some.report.experts[e].name;
    }
    EXPECT_EQ(answering, most);
    EXPECT_NEAR(total, 1, 1e-12);
  }
  options.answering_experts = 0;
  EXPECT_EQ(session(options).complete(prompt(60), greedy(12)).tokens,
            complete_with_base(*model, prompt(60), greedy(12)).tokens);
}

TEST_F(SessionTest, OnlyDirectionsThatAnswerAreLearned) {
  const SmallStore fresh(model);
  SessionOptions options = small_options();
  options.judged_blocks = 0;
  std::filesystem::remove_all(fresh.folder.path() / "store/gradients");
  options.answering_experts = 0;
  EXPECT_EQ(Session(model, fresh.store.get(), options).complete(prompt(60), greedy(2)).report.gradients_computed, 0);
  options.answering_experts = 100;
  EXPECT_EQ(Session(model, fresh.store.get(), options).complete(prompt(60), greedy(2)).report.gradients_computed, 4);
}

TEST_F(SessionTest, ChunksThatWereReadKeepTheirPlaceWhileTheNearestIsAmongThem) {
  const SessionOptions options = small_options();
  const Teacher teacher{*model, shared->store.get(), shared->statistics, options};
  const auto in_context = [&](std::span<const int64_t> read_before) {
    Lesson lesson;
    teacher.find_neighbours(encode(prose(0, 20, 99)), 4, {}, read_before, lesson, {});
    EXPECT_EQ(lesson.neighbours.size(), 4);
    std::vector<Token> tokens;
    for (const size_t i : lesson.in_context)
      tokens.insert(tokens.end(), lesson.neighbours[i].tokens.begin(), lesson.neighbours[i].tokens.end());
    EXPECT_EQ(lesson.context, tokens);
    return lesson.in_context;
  };
  const std::vector<Neighbour> found = shared->store->neighbours(prose(0, 20, 99), 12);
  const auto ids = [&](std::initializer_list<size_t> ranks) {
    std::vector<int64_t> result;
    for (const size_t rank : ranks) result.push_back(found[rank].chunk_id);
    return result;
  };
  using Ranks = std::vector<size_t>;
  EXPECT_EQ(in_context({}), (Ranks{1, 0}));
  EXPECT_EQ(in_context(ids({0, 3})), (Ranks{0, 3}));
  EXPECT_EQ(in_context(ids({3, 0})), (Ranks{3, 0}));
  EXPECT_EQ(in_context(ids({0, 9})), (Ranks{0, 1})) << "rank 9 is no neighbour any more";
  EXPECT_EQ(in_context(ids({9, 0})), (Ranks{1, 0}));
  EXPECT_EQ(in_context(ids({2, 3})), (Ranks{1, 0})) << "the nearest was not read";
}

TEST_F(SessionTest, StatisticsAreKeptInTheStore) {
  EXPECT_TRUE(has_statistics(*model, *shared->store, -1));
  EXPECT_FALSE(has_statistics(*model, *shared->store, 0));
  const CorpusStatistics loaded = load_statistics(*model, *shared->store, -1);
  EXPECT_EQ(loaded.serialize(), shared->statistics.serialize());
  EXPECT_EQ(loaded.first_layer, default_first_adapted_layer(*model));
  for (const auto& [id, block] : loaded.blocks) {
    for (const float d : block.row) EXPECT_TRUE(d > 0 && std::isfinite(d)) << name(id);
    for (const float d : block.column) EXPECT_TRUE(d > 0 && std::isfinite(d)) << name(id);
    EXPECT_TRUE(block.relative_step >= 0 && std::isfinite(block.relative_step)) << name(id);
  }
}

TEST_F(SessionTest, MissingAndDamagedStatistics) {
  const TemporaryFolder folder;
  Store empty = Store::create(folder.path() / "store", identity_of(*model));
  HONE_EXPECT_ERROR(Session(model, &empty), ErrorCode::not_found, "hone index");
  SessionOptions other = small_options();
  other.first_layer = 0;
  HONE_EXPECT_ERROR(Session(model, shared->store.get(), other), ErrorCode::not_found, "--first-layer 0");

  const int layer = default_first_adapted_layer(*model);
  const std::string key = "statistics/" + model->base_hash() + "/" + std::to_string(layer);
  empty.set_value(key, std::vector<std::byte>(37, std::byte{0x5a}));
  HONE_EXPECT_ERROR(load_statistics(*model, empty, -1), ErrorCode::corrupt, "--relearn");
  CorpusStatistics incomplete = shared->statistics;
  incomplete.blocks.erase(incomplete.blocks.begin());
  empty.set_value(key, incomplete.serialize());
  HONE_EXPECT_ERROR(load_statistics(*model, empty, -1), ErrorCode::corrupt, "do not fit");
  CorpusStatistics misshapen = shared->statistics;
  misshapen.blocks.begin()->second.row.pop_back();
  empty.set_value(key, misshapen.serialize());
  HONE_EXPECT_ERROR(load_statistics(*model, empty, -1), ErrorCode::corrupt, "do not fit");
  CorpusStatistics of_other_layers = shared->statistics;
  --of_other_layers.first_layer;
  empty.set_value(key, of_other_layers.serialize());
  HONE_EXPECT_ERROR(load_statistics(*model, empty, -1), ErrorCode::corrupt, "do not fit");
  CorpusStatistics more = shared->statistics;
  more.blocks.emplace(MatrixId{layer - 1, MatrixKind::q}, more.blocks.begin()->second);
  empty.set_value(key, more.serialize());
  HONE_EXPECT_ERROR(load_statistics(*model, empty, -1), ErrorCode::corrupt, "do not fit");
}

TEST_F(SessionTest, ACorpusTooSmallToLearnFromIsAnError) {
  const TemporaryFolder folder;
  folder.write("texts/one.txt", "a");
  Store store = Store::create(folder.path() / "store", identity_of(*model));
  HONE_EXPECT_ERROR(learn_statistics(*model, store, {}), ErrorCode::bad_input, "learn from");
  store.index({folder.path() / "texts"}, model->tokenizer(), {});
  HONE_EXPECT_ERROR(learn_statistics(*model, store, {}), ErrorCode::bad_input, "learn from");
  EXPECT_FALSE(has_statistics(*model, store, -1));
}

TEST_F(SessionTest, TheSameRequestGetsTheSameAnswer) {
  Session one = session(), two = session();
  for (const SamplingOptions& sampling : {greedy(24), sampled(24, 3)}) {
    const Completion first = one.complete(prompt(60), sampling);
    EXPECT_FALSE(first.tokens.empty());
    expect_same_answer(first, one.complete(prompt(60), sampling));
    one.complete(prompt(35), sampling);
    expect_same_answer(first, one.complete(prompt(60), sampling));
    expect_same_answer(first, two.complete(prompt(60), sampling));
  }
}

TEST_F(SessionTest, TheReportAddsUp) {
  for (const size_t length : {1, 2, 16, 17, 33, 70}) {
    const Report report = session().complete(prompt(length), greedy(2)).report;
    double prior = 0, weight = 0;
    for (const ExpertWeight& expert : report.experts) prior += expert.prior, weight += expert.weight;
    EXPECT_NEAR(prior, 1, 1e-9);
    EXPECT_NEAR(weight, 1, 1e-9);
    EXPECT_EQ(report.experts.front().name, "base");
    EXPECT_GT(report.experts.front().weight, 0);
    EXPECT_EQ(report.evidence_tokens, length > 16 ? length - 16 : 0);
    EXPECT_LE(report.evidence_mixture_bits, report.evidence_base_bits + report.bound_bits + 1e-6) << length;
    EXPECT_EQ(report.base_hash, model->base_hash());
    size_t read_as_text = 0;
    for (const Report::Source& source : report.neighbours) read_as_text += source.in_context ? 1 : 0;
    EXPECT_EQ(read_as_text, std::min<size_t>(2, report.neighbours.size()));
  }
  const Report report = session().complete(prompt(60), greedy(2)).report;
  EXPECT_EQ(report.neighbours.size(), 4U);
  EXPECT_EQ(report.note, "");
  EXPECT_EQ(report.experts.size(), 1 + 3 + 2 + 1 + 2U);
}

// The context holds what the model reads: BOS counts where the model has one.
TEST(CompleteWithBase, FillsTheContext) {
  for (const char* name : {"llama", "qwen2"}) {
    const auto model = Model::open(tiny_model(name));
    const size_t room = static_cast<size_t>(model->config().context) - model->encode("").size();
    const std::vector<Token> prompt(room - 2, 5);
    const SamplingOptions sampling{.max_tokens = 2};
    EXPECT_NO_THROW(complete_with_base(*model, prompt, sampling)) << name;
    const std::vector<Token> longer(room - 1, 5);
    HONE_EXPECT_ERROR(complete_with_base(*model, longer, sampling), ErrorCode::bad_input, "--max-tokens");
  }
}

// Steps that neighbours' gradients were never meant for, up to results that are no numbers.
TEST_F(SessionTest, NoTokenLosesMoreThanTheFloorAllows) {
  for (const float step : {3e-4F, 1.0F, 1e3F, 1e18F, infinite})
    for (const bool learns : {false, true})
      for (const decide::Sharing sharing : {decide::Sharing::bayes, decide::Sharing::fixed_share})
        for (const size_t length : {10, 60}) {
          SessionOptions options = small_options();
          options.neighbour_steps = options.prompt_steps = options.context_steps = {step, -step};
          options.learn_from_answer = learns;
          options.sharing = sharing;
          const std::vector<Token> text = encode(prose(0, 4, 123));
          const Session::Scored scored = session(options).score_continuation(prompt(length), text);
          ASSERT_EQ(scored.base.size(), text.size());
          ASSERT_EQ(scored.mixture.size(), text.size());
          double lost = 0;
          for (size_t t = 0; t < text.size(); ++t) {
            EXPECT_LE(scored.mixture[t], scored.base[t] + std::log(1 / options.floor) + 1e-9) << step << ' ' << t;
            EXPECT_GE(scored.mixture[t], 0);
            lost += (scored.mixture[t] - scored.base[t]) / std::numbers::ln2;
          }
          std::vector<double> weights;
          for (const ExpertWeight& expert : scored.report.experts)
            if (expert.weight > 0) weights.push_back(expert.weight);
          const auto tokens = static_cast<double>(text.size());
          const double bound = scored.report.answer_bound_bits;
          EXPECT_LE(lost, bound + 1e-6) << step;
          EXPECT_LE(bound, tokens * std::log2(1 / options.floor) + 1e-9);
          if (learns)
            EXPECT_NEAR(bound, decide::Mixture(weights, sharing, options.floor).bound_bits(text.size()), 1e-6);
          else
            EXPECT_NEAR(std::exp2(-bound / tokens), options.floor + (1 - options.floor) * weights[0], 1e-9);
        }
}

TEST_F(SessionTest, ExpertsThatSayNoNumberAreNotBelieved) {
  SessionOptions options = small_options();
  options.context_neighbours = 0;
  options.prompt_steps.clear();
  options.neighbour_steps = {infinite};
  const SamplingOptions sampling = greedy(20);
  const std::vector<Token> text = encode(prose(0, 3, 123));
  for (const bool learns : {false, true})
    for (const size_t length : {10, 60}) {
      options.learn_from_answer = learns;
      const Session::Scored scored = session(options).score_continuation(prompt(length), text);
      for (size_t t = 0; t < text.size(); ++t) EXPECT_GE(scored.mixture[t], scored.base[t] - 1e-9);
      EXPECT_GE(scored.report.evidence_mixture_bits, scored.report.evidence_base_bits - 1e-6);
      EXPECT_EQ(session(options).complete(prompt(length), sampling).tokens,
                complete_with_base(*model, prompt(length), sampling).tokens);
    }
}

TEST_F(SessionTest, ABaseThatSaysNoNumberIsAnError) {
  const auto damaged = overflowing_model();
  HONE_EXPECT_ERROR(complete_with_base(*damaged, prompt(10), greedy(4)), ErrorCode::corrupt, damaged->name());
  HONE_EXPECT_ERROR(complete_with_base(*damaged, prompt(10), sampled(4, 3)), ErrorCode::corrupt, "not finite");
  HONE_EXPECT_ERROR(Session(damaged, nullptr).complete(prompt(10), greedy(4)), ErrorCode::corrupt, damaged->name());
  HONE_EXPECT_ERROR(SmallStore{damaged}, ErrorCode::corrupt, damaged->name() + " gives a text a loss");
}

TEST_F(SessionTest, ManyBlocksNeverTakeTheLastOfAWeight) {
  SessionOptions options = small_options();
  options.block_tokens = 4;
  options.context_neighbours = 0;
  options.neighbour_steps = {1e3F, -1e3F, infinite};
  for (const decide::Sharing sharing : {decide::Sharing::bayes, decide::Sharing::fixed_share}) {
    options.sharing = sharing;
    const Report report = session(options).complete(prompt(120), greedy(1)).report;
    EXPECT_LE(report.evidence_mixture_bits, report.evidence_base_bits + report.bound_bits + 1e-6);
    EXPECT_EQ(report.evidence_tokens, 116U);
  }
}

TEST_F(SessionTest, PromptsThatCannotBeAnswered) {
  HONE_EXPECT_ERROR(session().complete({}, {}), ErrorCode::bad_input, "empty");
  HONE_EXPECT_ERROR(session().score_continuation({}, prompt(3)), ErrorCode::bad_input, "empty");
  HONE_EXPECT_ERROR(complete_with_base(*model, {}, {}), ErrorCode::bad_input, "empty");
  const std::vector<Token> longest(static_cast<size_t>(model->config().context) + 1, prompt(1)[0]);
  SessionOptions one_block = small_options();
  one_block.block_tokens = 1000;
  HONE_EXPECT_ERROR(session(one_block).complete(longest, {}), ErrorCode::bad_input, "context");
  HONE_EXPECT_ERROR(complete_with_base(*model, longest, {}), ErrorCode::bad_input, "context");
  HONE_EXPECT_ERROR(session().complete(prompt(20), greedy(500), {}, [](std::string_view) { FAIL(); }),
                    ErrorCode::bad_input, "context");
  EXPECT_EQ(session().score_continuation(prompt(20), {}).mixture.size(), 0U);
  EXPECT_EQ(session().complete(prompt(20), greedy(0)).text, "");
}

TEST_F(SessionTest, RetrievedTextGivesWayToALongContinuation) {
  std::vector<Token> text = encode(prose(0, 60, 5));
  text.resize(440);
  const Session::Scored scored = session().score_continuation(prompt(40), text);
  EXPECT_EQ(scored.mixture.size(), text.size());
  EXPECT_NE(scored.report.note, "");
  for (const Report::Source& source : scored.report.neighbours) EXPECT_FALSE(source.in_context);
}

TEST_F(SessionTest, AllExpertsMayAnswer) {
  SessionOptions all = small_options();
  all.answering_experts = std::numeric_limits<size_t>::max();
  const Completion completion = session(all).complete(prompt(80), greedy(2));
  EXPECT_GT(completion.report.experts.size(), 5U);
  double total = 0;
  for (const ExpertWeight& expert : completion.report.experts) total += expert.weight;
  EXPECT_NEAR(total, 1, 1e-9);
}

TEST_F(SessionTest, OptionsOutOfRange) {
  const auto refused = [&](auto&& change, const char* text) {
    SessionOptions options = small_options();
    change(options);
    HONE_EXPECT_ERROR(session(options), ErrorCode::bad_input, text);
  };
  for (const double floor : {0.0, 1.0, -0.1, 1.5, std::numeric_limits<double>::quiet_NaN()})
    refused([&](SessionOptions& options) { options.floor = floor; }, "floor");
  refused([](SessionOptions& options) { options.block_tokens = 0; }, "block");
  refused([](SessionOptions& options) { options.first_layer = 3; }, "first layer 3");
  HONE_EXPECT_ERROR(session().complete(prompt(5), {.temperature = -1, .stop = {}}), ErrorCode::bad_input,
                    "temperature");
  HONE_EXPECT_ERROR(session().complete(prompt(5), {.top_p = 0, .stop = {}}), ErrorCode::bad_input, "top-p");
}

TEST_F(SessionTest, WithoutTeachersTheBaseAnswers) {
  const SamplingOptions sampling = greedy(16);
  const Completion base = complete_with_base(*model, prompt(60), sampling);
  EXPECT_EQ(base.report.protocol, "base");
  const Completion alone = Session(model, nullptr, small_options()).complete(prompt(60), sampling);
  EXPECT_EQ(alone.text, base.text);
  EXPECT_EQ(alone.tokens, base.tokens);
  EXPECT_NE(alone.report.note, "");

  SessionOptions no_experts = small_options();
  no_experts.neighbours = no_experts.context_neighbours = 0;
  no_experts.prompt_steps.clear();
  EXPECT_EQ(session(no_experts).complete(prompt(60), sampling).tokens, base.tokens);

  const Completion stranger = session().complete(encode("qwxz vbnqk zzzkq"), sampling);
  EXPECT_TRUE(stranger.report.neighbours.empty());
  EXPECT_NE(stranger.report.note, "");
}

TEST_F(SessionTest, CancelledAnywhereItLeavesNoTrace) {
  Session at_work = session();
  const SamplingOptions sampling = greedy(6);
  size_t reports = 0;
  const Completion expected =
      at_work.complete(prompt(40), sampling, {.progress = [&](const Progress&) { ++reports; }, .cancel = {}});
  ASSERT_GT(reports, 6U);
  for (size_t k = 1; k <= reports; ++k) {
    Watch watch;
    size_t seen = 0;
    watch.progress = [&](const Progress&) {
      if (++seen == k) watch.cancel.cancel();
    };
    if (k < reports) {
      HONE_EXPECT_ERROR(at_work.complete(prompt(40), sampling, watch), ErrorCode::cancelled, "");
    } else {  // after the last report nothing is left to stop
      expect_same_answer(expected, at_work.complete(prompt(40), sampling, watch));
    }
    EXPECT_EQ(seen, k);
    expect_same_answer(expected, at_work.complete(prompt(40), sampling));
  }
}

TEST_F(SessionTest, StopStringsEndTheAnswerWhereverTheyStand) {
  Session at_work = session();
  const std::vector<Token> question = prompt(30);
  const std::string whole = at_work.complete(question, greedy(30)).text;
  ASSERT_GT(whole.size(), 10U);
  for (size_t from = 0; from + 4 <= whole.size(); from += 3) {
    const std::string stop = whole.substr(from, 4);
    std::string streamed;
    const Completion cut = at_work.complete(question, {.max_tokens = 30, .stop = {"never said", stop}}, {},
                                            [&](std::string_view piece) { streamed += piece; });
    EXPECT_EQ(cut.text, whole.substr(0, whole.find(stop)));
    EXPECT_EQ(streamed, cut.text);
    EXPECT_TRUE(cut.stopped);
  }
}

TEST_F(SessionTest, AThousandRequestsLeaveTheBaseAsItWas) {
  const std::string weights = model->hash_weights();
  const std::string answer = complete_with_base(*model, prompt(20), greedy(20)).text;
  const size_t chunks = shared->store->chunk_count();
  for (uint64_t request = 0; request < 1000; ++request) {
    SessionOptions options = small_options();
    options.learn_from_answer = request % 2 == 1;
    if (request % 5 == 0) options.neighbour_steps = {1e3F};
    std::vector<Token> question = encode(prose(request % 3, 2, request));
    question.resize(std::min<size_t>(question.size(), 20));
    session(options).complete(question, sampled(2, request));
  }
  EXPECT_EQ(model->hash_weights(), weights);
  EXPECT_EQ(complete_with_base(*model, prompt(20), greedy(20)).text, answer);
  EXPECT_EQ(shared->store->chunk_count(), chunks);
  EXPECT_EQ(load_statistics(*model, *shared->store, -1).serialize(), shared->statistics.serialize());
}

TEST_F(SessionTest, WritingToTheWeightsFaults) {
  const std::span<const std::byte> weights = model->weights();
  ASSERT_FALSE(weights.empty());
  EXPECT_DEATH(const_cast<volatile std::byte&>(weights.front()) = std::byte{1}, "");
  EXPECT_DEATH(const_cast<volatile std::byte&>(weights[weights.size() / 2]) = std::byte{1}, "");
  EXPECT_DEATH(const_cast<volatile std::byte&>(weights.back()) = std::byte{1}, "");
}

TEST(RealSession, TwentyRequestsLeaveSmolLM2AsItWas) {
  HONE_NEED_FILE(smollm2());
  const SmallStore small(Model::open(smollm2(), {.precision = Precision::int8}), 24,
                         {.preconditioner_chunks = 2, .pairs = 1, .neighbours = 2});
  const Model& model = *small.model;
  const std::string weights = model.hash_weights();
  const std::vector<Token> fixed = model.tokenizer().encode("The harbour wakes before");
  const std::string answer = complete_with_base(model, fixed, greedy(8)).text;
  SessionOptions options;
  options.neighbours = 2;
  options.context_neighbours = 1;
  Session session(small.model, small.store.get(), options);
  std::string first;
  for (uint64_t request = 0; request < 20; ++request) {
    const std::vector<Token> question = model.tokenizer().encode("The " + prose(request % 2, 1, request % 2));
    const Completion completion = session.complete(question, greedy(2));
    EXPECT_EQ(completion.report.neighbours.size(), 2U);
    if (request == 0) first = completion.text;
    if (request % 2 == 0) {
      EXPECT_EQ(completion.text, first);
    }
  }
  EXPECT_EQ(model.hash_weights(), weights);
  EXPECT_EQ(complete_with_base(model, fixed, greedy(8)).text, answer);
}

}  // namespace
}  // namespace hone::test::session_test
