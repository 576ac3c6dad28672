// Cancelled wherever a long operation looks: it says so, what was committed stays, and the next run goes on from there.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <set>
#include <thread>

#include "tests/expect_error.h"
#include "tests/fake_tokenizer.h"
#include "tests/small_store.h"

namespace hone::test::cancel_test {
namespace {

namespace fs = std::filesystem;
using Stages = std::set<std::string>;

// Calls `work` again and again, cancelled at its first report, at its second, ... until it comes through, and `after`
// each time that it was stopped. Returns the stages it was stopped in.
template <class Work, class After>
Stages cancel_at_every_report(const Work& work, const After& after) {
  Stages stopped;
  for (size_t k = 1;; ++k) {
    SCOPED_TRACE(k);
    Watch watch;
    size_t reports = 0;
    std::string stage;
    watch.progress = [&](const Progress& progress) {
      if (++reports < k) return;
      stage = progress.stage;
      watch.cancel.cancel();
    };
    try {
      work(watch);
      EXPECT_LE(reports, k) << "it went on";
      return stopped;
    } catch (const Error& error) {
      EXPECT_EQ(name(error.code), name(ErrorCode::cancelled)) << error.message;
      EXPECT_NE(error.message.find("run it again"), std::string::npos) << error.message;
      EXPECT_EQ(reports, k) << "it went on";
      stopped.insert(stage);
    }
    after();
    if (testing::Test::HasFailure()) return stopped;
  }
}

// Calls `work` cancelled by another thread after ever longer times, up to as long as it takes. Returns how often it was
// stopped; `after` is called each time.
template <class Work, class After>
int cancel_at_many_times(int attempts, const Work& work, const After& after) {
  const auto start = std::chrono::steady_clock::now();
  work(Watch{});
  const auto whole = std::chrono::steady_clock::now() - start;
  int stopped = 0;
  for (int i = 0; i < attempts; ++i) {
    const Watch watch;
    std::thread canceller([&] {
      std::this_thread::sleep_for(whole * i / attempts);
      watch.cancel.cancel();
    });
    try {
      work(watch);
    } catch (const Error& error) {
      EXPECT_EQ(name(error.code), name(ErrorCode::cancelled)) << error.message;
      ++stopped;
    }
    canceller.join();
    after();
    if (testing::Test::HasFailure()) break;
  }
  return stopped;
}

// --- Indexing ---

// Cancels in the middle of a document: it is read in pieces of 64 KiB.
class CancellingTokenizer : public ByteTokenizer {
 public:
  CancellingTokenizer(size_t piece, CancelToken cancel) : piece_(piece), cancel_(std::move(cancel)) {}
  std::vector<Token> encode(std::string_view text, bool special = false) const override {
    if (++pieces_ == piece_) cancel_.cancel();
    return ByteTokenizer::encode(text, special);
  }

 private:
  size_t piece_;
  CancelToken cancel_;
  mutable std::atomic<size_t> pieces_ = 0;
};

std::string numbered(const std::string& stem, size_t bytes) {
  std::string text;
  for (size_t i = 0; text.size() < bytes; ++i) text += stem + std::to_string(i) + " ";
  return text;
}

class CancelIndex : public testing::Test {
 protected:
  fs::path docs() const { return folder.path() / "docs"; }
  Store create() const { return Store::create(folder.path() / "store", {"fake", "0123456789abcdef"}); }
  IndexReport index(Store& store, const Watch& watch = {}) const { return store.index({docs()}, tokenizer, {}, watch); }
  // Each file as its chunks give it.
  static std::map<std::string, std::string> contents(const Store& store) {
    std::map<std::string, std::map<int, std::string>> parts;
    for (const int64_t id : store.chunk_ids()) {
      const Chunk chunk = store.chunk(id);
      parts[fs::path(chunk.path).filename().string()][chunk.ordinal] = chunk.text;
    }
    std::map<std::string, std::string> files;
    for (const auto& [file, chunks] : parts)
      for (const auto& [ordinal, text] : chunks) files[file] += text;
    return files;
  }

  TemporaryFolder folder;
  ByteTokenizer tokenizer;
};

TEST_F(CancelIndex, BetweenFiles) {
  std::map<std::string, std::string> all;
  for (int i = 0; i < 8; ++i) {
    const std::string file = "f" + std::to_string(i);
    all[file] = numbered(file + "w", 600);
    folder.write("docs/" + file, all[file]);
  }
  Store store = create();
  size_t before = 0;
  const Stages stopped = cancel_at_every_report([&](const Watch& watch) { index(store, watch); },
                                                [&] {
                                                  const auto kept = contents(store);
                                                  EXPECT_GE(kept.size(), before);
                                                  before = kept.size();
                                                  for (const auto& [file, text] : kept) EXPECT_EQ(text, all[file]);
                                                });
  EXPECT_EQ(stopped, Stages{"index"});
  EXPECT_EQ(before, 7u);
  EXPECT_EQ(contents(store), all);
}

TEST_F(CancelIndex, InsideAFileItsOldVersionStays) {
  folder.write("docs/a", "another file");
  folder.write("docs/long", "the old version");
  Store store = create();
  index(store);
  const auto before = contents(store);
  const std::string fresh = numbered("w", 300 << 10);
  folder.write("docs/long", fresh);
  for (size_t piece = 1; piece <= 5; ++piece) {
    const Watch watch;
    HONE_EXPECT_ERROR(store.index({docs()}, CancellingTokenizer(piece, watch.cancel), {}, watch), ErrorCode::cancelled,
                      "run it again");
    EXPECT_EQ(contents(store), before);
    EXPECT_TRUE(store.neighbours("w17", 1).empty());
    EXPECT_EQ(contents(Store::open(store.directory())), before);
  }
  EXPECT_EQ(index(store).files_indexed, 1u);
  EXPECT_EQ(contents(store)["long"], fresh);
}

TEST_F(CancelIndex, WhileRemovingWhatIsGone) {
  for (const char* file : {"a", "b", "c"}) {
    folder.write(std::string("docs/") + file, numbered(file, 600));
    fs::last_write_time(docs() / file, fs::file_time_type::clock::now() - std::chrono::hours(1));
  }
  Store store = create();
  index(store);
  const auto before = contents(store);
  fs::remove(docs() / "a");
  // The last file is unchanged: the next look at the token is where "a" is removed.
  Watch watch;
  watch.progress = [&](const Progress& progress) {
    if (progress.done + 1 == progress.total) watch.cancel.cancel();
  };
  HONE_EXPECT_ERROR(index(store, watch), ErrorCode::cancelled, "run it again");
  EXPECT_EQ(contents(store), before);
  EXPECT_EQ(index(store).files_removed, 1u);
  EXPECT_EQ(contents(store).size(), 2u);
}

TEST_F(CancelIndex, BeforeItBegins) {
  folder.write("docs/a", "a file");
  Store store = create();
  const Watch watch;
  watch.cancel.cancel();
  HONE_EXPECT_ERROR(index(store, watch), ErrorCode::cancelled, "run it again");
  EXPECT_EQ(store.chunk_count(), 0u);
}

// --- Learning, evaluating, answering ---

class Cancel : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared = std::make_unique<SmallStore>(Model::open(tiny_model("llama")), 60, learn_options());
    shared->folder.write("held/out.txt", prose(0, 30, 77));
  }
  static void TearDownTestSuite() { shared.reset(); }

  static LearnOptions learn_options(uint64_t seed = 0) {
    return {.preconditioner_chunks = 4, .pairs = 3, .neighbours = 2, .seed = seed};
  }
  static std::vector<Token> encode(std::string_view text) { return shared->model->tokenizer().encode(text); }
  static std::vector<Token> prompt() { return prose_tokens(*shared->model, 60); }
  static SessionOptions session_options() {
    SessionOptions options;
    options.neighbours = 3;
    options.context_neighbours = 1;
    options.block_tokens = 16;
    options.judged_blocks = 2;
    return options;
  }
  static fs::path rows() { return shared->store->directory() / "gradients"; }
  static size_t rows_kept() {
    if (!fs::exists(rows())) return 0;
    return static_cast<size_t>(std::distance(fs::directory_iterator(rows()), fs::directory_iterator()));
  }
  // What the store held before is what it holds.
  static void expect_intact() {
    EXPECT_EQ(shared->store->chunk_ids().size(), shared->store->chunk_count());
    for (const int64_t id : shared->store->chunk_ids()) shared->store->chunk(id);
    EXPECT_EQ(load_statistics(*shared->model, *shared->store, -1).serialize(), shared->statistics.serialize());
  }

  static std::unique_ptr<SmallStore> shared;
  const Model& model = *shared->model;
};

std::unique_ptr<SmallStore> Cancel::shared;

TEST_F(Cancel, LearningStatistics) {
  const TemporaryFolder folder;
  Store store = Store::create(folder.path() / "store", identity_of(model));
  store.index({shared->folder.path() / "texts"}, model.tokenizer(), {.chunk_tokens = 60});
  const size_t chunks = store.chunk_count();
  const auto learn = [&](const Watch& watch) { learn_statistics(model, store, learn_options(), watch); };
  EXPECT_EQ(cancel_at_every_report(learn,
                                   [&] {
                                     EXPECT_FALSE(has_statistics(model, store, -1));
                                     EXPECT_EQ(store.chunk_count(), chunks);
                                   }),
            Stages{"learn"});
  const std::vector<std::byte> old = load_statistics(model, store, -1).serialize();
  EXPECT_EQ(old, shared->statistics.serialize());
  const auto relearn = [&](const Watch& watch) { learn_statistics(model, store, learn_options(1), watch); };
  EXPECT_EQ(cancel_at_every_report(relearn, [&] { EXPECT_EQ(load_statistics(model, store, -1).serialize(), old); }),
            Stages{"learn"});
  EXPECT_NE(load_statistics(model, store, -1).serialize(), old);
}

TEST_F(Cancel, StoringGradients) {
  fs::remove_all(rows());
  const size_t chunks = shared->store->chunk_count();
  size_t computed = 0, before = 0;
  const Stages stopped = cancel_at_every_report(
      [&](const Watch& watch) {
        computed = store_gradients(model, *shared->store, shared->statistics, 1ull << 30, watch).computed;
      },
      [&] {
        expect_intact();
        EXPECT_GE(rows_kept(), before) << "a row that was kept is gone";
        before = rows_kept();
      });
  EXPECT_EQ(stopped, Stages{"gradients"});
  EXPECT_GT(before, 1u);
  EXPECT_EQ(before + computed, chunks) << "what was kept is not computed again";
  EXPECT_EQ(rows_kept(), chunks);
}

TEST_F(Cancel, ThePublishedProtocol) {
  std::vector<std::vector<Token>> neighbours;
  for (const int64_t id : shared->store->chunk_ids())
    if (neighbours.size() < 4) neighbours.push_back(shared->store->chunk(id).tokens);
  const Adapter expected = published_protocol(model, neighbours, {});
  const auto run = [&](const Watch& watch) {
    const Adapter adapter = published_protocol(model, neighbours, {}, watch);
    for (const auto& [id, pair] : expected.low_rank) EXPECT_TRUE(same_bits(adapter.low_rank.at(id).b, pair.b));
  };
  size_t reports = 0;
  published_protocol(model, neighbours, {}, {.progress = [&](const Progress&) { ++reports; }, .cancel = {}});
  for (size_t k = 1; k <= reports; ++k) {
    Watch watch;
    size_t seen = 0;
    watch.progress = [&](const Progress& progress) {
      EXPECT_EQ(progress.stage, "adapt");
      if (++seen == k) watch.cancel.cancel();
    };
    HONE_EXPECT_ERROR(run(watch), ErrorCode::cancelled, "run it again");
    EXPECT_EQ(seen, k);
  }
  run({});
}

TEST_F(Cancel, Evaluating) {
  for (const Protocol protocol : {Protocol::continuation, Protocol::score, Protocol::complete}) {
    EvaluationOptions options;
    options.protocol = protocol;
    options.offset = 4;
    options.prefix = 48;
    options.continuation = 24;
    options.windows = 2;
    options.session = session_options();
    options.published_neighbours = 3;
    const auto run = [&](const Watch& watch) {
      return evaluate(shared->model, *shared->store, {shared->folder.path() / "held/out.txt"}, options, watch);
    };
    const Evaluation expected = run({});
    ASSERT_EQ(expected.windows, 2u);
    const auto work = [&](const Watch& watch) {
      const Evaluation evaluation = run(watch);
      for (size_t r = 0; r < evaluation.tables[0].rows.size(); ++r)
        EXPECT_EQ(evaluation.tables[0].rows[r].bits, expected.tables[0].rows[r].bits);
    };
    EXPECT_TRUE(cancel_at_every_report(work, expect_intact).contains("evaluate"));
    // Between reports: retrieval, gradients, experts, and the published protocol's steps, which take longest.
    EXPECT_GT(cancel_at_many_times(20, work, expect_intact), 0);
  }
}

TEST_F(Cancel, Answering) {
  Session session(shared->model, shared->store.get(), session_options());
  const SamplingOptions sampling{.max_tokens = 5, .stop = {}};
  const Completion expected = session.complete(prompt(), sampling);
  ASSERT_EQ(expected.tokens.size(), 5u);
  const auto work = [&](const Watch& watch) {
    EXPECT_EQ(session.complete(prompt(), sampling, watch).tokens, expected.tokens);
  };
  fs::remove_all(rows());
  // The last report comes before the last token, which is then still computed.
  size_t reports = 0;
  session.complete(prompt(), sampling, {.progress = [&](const Progress&) { ++reports; }, .cancel = {}});
  Stages stopped;
  for (size_t k = 1; k < reports; ++k) {
    Watch watch;
    size_t seen = 0;
    watch.progress = [&](const Progress& progress) {
      if (++seen != k) return;
      stopped.emplace(progress.stage);
      watch.cancel.cancel();
    };
    HONE_EXPECT_ERROR(session.complete(prompt(), sampling, watch), ErrorCode::cancelled, "run it again");
    EXPECT_EQ(seen, k);
    expect_intact();
  }
  EXPECT_EQ(stopped, (Stages{"judge", "gradients", "answer"}));
  work({});
  EXPECT_GT(cancel_at_many_times(20, work, expect_intact), 0);
}

// Nothing is left to compute between the last neighbour's stored row and the experts' reading of the prompt.
TEST_F(Cancel, ReadingThePrompt) {
  store_gradients(model, *shared->store, shared->statistics, 1ull << 30);
  SessionOptions options = session_options();
  options.judged_blocks = 0;
  options.prompt_steps.clear();
  Session session(shared->model, shared->store.get(), options);
  const SamplingOptions sampling{.max_tokens = 2, .stop = {}};
  size_t gradients = 0, computed = 0;
  computed = session
                 .complete(prompt(), sampling,
                           {.progress = [&](const Progress& p) { gradients += p.stage == "gradients"; }, .cancel = {}})
                 .report.gradients_computed;
  ASSERT_EQ(computed, 0u);
  ASSERT_EQ(gradients, 3u);
  Watch watch;
  size_t seen = 0;
  watch.progress = [&](const Progress&) {
    if (++seen == gradients) watch.cancel.cancel();
  };
  HONE_EXPECT_ERROR(session.complete(prompt(), sampling, watch), ErrorCode::cancelled, "run it again");
  EXPECT_EQ(seen, gradients);
  expect_intact();
}

TEST_F(Cancel, FromTheAnswersReader) {
  Session session(shared->model, shared->store.get(), session_options());
  const SamplingOptions sampling{.max_tokens = 200, .stop = {}};
  for (const bool base : {false, true}) {
    const Watch watch;
    std::string read;
    const auto stream = [&](std::string_view piece) {
      read += piece;
      watch.cancel.cancel();
    };
    const auto answer = [&] {
      return base ? complete_with_base(model, prompt(), sampling, watch, stream)
                  : session.complete(prompt(), sampling, watch, stream);
    };
    HONE_EXPECT_ERROR(answer(), ErrorCode::cancelled, "run it again");
    EXPECT_FALSE(read.empty());
    EXPECT_LT(read.size(), 40u);
  }
}

TEST_F(Cancel, ScoringAContinuation) {
  Session session(shared->model, shared->store.get(), session_options());
  const std::vector<Token> text = encode(prose(0, 3, 5));
  const std::vector<double> expected = session.score_continuation(prompt(), text).mixture;
  const auto work = [&](const Watch& watch) {
    EXPECT_EQ(session.score_continuation(prompt(), text, watch).mixture, expected);
  };
  EXPECT_GT(cancel_at_many_times(20, work, expect_intact), 0);
}

TEST_F(Cancel, ScoringAText) {
  const std::string text = prose(1, 30, 3);
  const ScoreOptions options{.window = 64, .stride = 32};
  const double bits = score(model, text, options).bits;
  EXPECT_EQ(cancel_at_every_report(
                [&](const Watch& watch) { EXPECT_EQ(score(model, text, options, watch).bits, bits); }, [] {}),
            Stages{"score"});
}

}  // namespace
}  // namespace hone::test::cancel_test
