// Neighbours by dense vectors and by both lists: the vector of a text, the vectors of a store, a request, the program.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/data.h"
#include "tests/expect_error.h"
#include "tests/program.h"
#include "tests/small_store.h"

namespace hone::test::retrieval_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class RetrievalTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared = std::make_unique<SmallStore>(Model::open(tiny_model("llama")), 20);
    shared->folder.write("held/out.txt", prose(0, 14, 77));
  }
  static void TearDownTestSuite() { shared.reset(); }
  void SetUp() override { fs::remove(shared->folder.path() / "store" / "vectors"); }

  static SessionOptions small_options(Retrieval retrieval) {
    SessionOptions options;
    options.neighbours = 4;
    options.context_neighbours = 2;
    options.block_tokens = 16;
    options.retrieval = retrieval;
    return options;
  }

  static std::unique_ptr<SmallStore> shared;
  std::shared_ptr<const Model> model = shared->model;
  Store& store = *shared->store;
};

std::unique_ptr<SmallStore> RetrievalTest::shared;

TEST_F(RetrievalTest, AVectorIsTheMeanDirectionOfAllTokensButTheFirstRead) {
  const Encoder encoder = encoder_of(*model);
  EXPECT_EQ(encoder.dimension, static_cast<size_t>(model->config().width));
  const size_t at = encoder.name.find(" L");
  ASSERT_NE(at, std::string::npos) << encoder.name;
  const int layers = std::stoi(encoder.name.substr(at + 2));
  EXPECT_GE(layers, 1);
  EXPECT_LE(layers, model->config().layers);
  for (const size_t length : {size_t{1}, size_t{2}, size_t{30}}) {
    const std::vector<Token> tokens = prose_tokens(*model, length);
    std::vector<Token> read = tokens;
    if (model->tokenizer().adds_bos()) read.insert(read.begin(), model->tokenizer().bos());
    const Sequence sequence{.tokens = read};
    const Matrix states = model->forward({&sequence, 1}, 0, layers, model->embed({&sequence, 1}));
    const size_t first = read.size() > 1 ? 1 : 0;
    std::vector<float> expected(encoder.dimension);
    for (size_t t = first; t < states.rows(); ++t)
      for (size_t d = 0; d < expected.size(); ++d)
        expected[d] +=
            static_cast<float>(states.row(t)[d] / norm(states.row(t)) / static_cast<double>(states.rows() - first));
    EXPECT_LT(largest_difference(embedding(*model, tokens), expected), 1e-5) << length;
  }
  const std::vector<float> of_nothing = embedding(*model, {});
  EXPECT_EQ(of_nothing, std::vector<float>(encoder.dimension));
}

TEST_F(RetrievalTest, OfATextLongerThanTheContextTheEndIsRead) {
  const auto context = static_cast<size_t>(model->config().context);
  const size_t bos = model->tokenizer().adds_bos() ? 1 : 0;
  std::vector<Token> tokens;
  for (uint64_t seed = 0; tokens.size() < context + 7; ++seed)
    for (const Token token : model->tokenizer().encode(prose(seed % 3, 20, seed))) tokens.push_back(token);
  EXPECT_EQ(embedding(*model, tokens), embedding(*model, std::span(tokens).last(context - bos)));
  HONE_EXPECT_ERROR(embedding(*model, std::array<Token, 1>{1 << 30}), ErrorCode::bad_input, "");
}

TEST_F(RetrievalTest, VectorsAreComputedOnce) {
  const size_t chunks = store.chunk_count();
  ASSERT_GT(chunks, 33u) << "more than one commit";
  size_t reports = 0;
  const Watch counting{.progress =
                           [&](const Progress& progress) {
                             EXPECT_EQ(progress.stage, "vectors");
                             EXPECT_EQ(progress.done, reports++);
                             EXPECT_EQ(progress.total, chunks);
                           },
                       .cancel = {}};
  EXPECT_EQ(store_vectors(*model, store, counting), chunks);
  EXPECT_EQ(reports, chunks);
  EXPECT_EQ(store_vectors(*model, store), 0u);
  // Each chunk finds itself.
  for (const int64_t id : store.chunk_ids()) {
    const Chunk chunk = store.chunk(id);
    const auto found = find_neighbours(*model, store, Retrieval::vectors, chunk.tokens, 1);
    EXPECT_EQ(found.at(0).chunk_id, id);
    EXPECT_NEAR(found.at(0).score, 1, 1e-5);
  }
}

TEST_F(RetrievalTest, CancelledAnywhereItGoesOnFromTheLastCommit) {
  const size_t chunks = store.chunk_count();
  const auto missing = [&] { return store.chunks_without_vector(encoder_of(*model)).size(); };
  for (const size_t stop : {size_t{0}, size_t{5}, size_t{31}, size_t{32}, size_t{33}}) {
    fs::remove(shared->folder.path() / "store" / "vectors");
    Watch watch;
    watch.progress = [&](const Progress& progress) {
      if (progress.done == stop) watch.cancel.cancel();
    };
    HONE_EXPECT_ERROR(store_vectors(*model, store, watch), ErrorCode::cancelled, "");
    EXPECT_EQ(missing(), stop < 32 ? chunks : chunks - 32) << stop;
    EXPECT_EQ(store_vectors(*model, store), stop < 32 ? chunks : chunks - 32);
    EXPECT_EQ(missing(), 0u);
  }
}

TEST_F(RetrievalTest, EachWayAsItsParts) {
  const std::vector<Token> text = prose_tokens(*model, 40);
  HONE_EXPECT_ERROR(find_neighbours(*model, store, Retrieval::vectors, text, 5), ErrorCode::not_found, "--vectors");
  HONE_EXPECT_ERROR(find_neighbours(*model, store, Retrieval::fused, text, 5), ErrorCode::not_found, "--vectors");
  HONE_EXPECT_ERROR(find_neighbours(*model, store, Retrieval::sift, text, 5), ErrorCode::not_found, "--vectors");
  store_vectors(*model, store);
  const auto expect_same = [](const std::vector<Neighbour>& a, const std::vector<Neighbour>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].chunk_id, b[i].chunk_id);
      EXPECT_EQ(a[i].score, b[i].score);
    }
  };
  const auto words = store.neighbours(model->tokenizer().decode(text), 100);
  const auto vectors = store.nearest(encoder_of(*model), embedding(*model, text), 100);
  for (const size_t count : {size_t{0}, size_t{5}, size_t{100}}) {
    const auto first = [&](std::vector<Neighbour> list) {
      list.resize(std::min(count, list.size()));
      return list;
    };
    expect_same(find_neighbours(*model, store, Retrieval::bm25, text, count), first(words));
    expect_same(find_neighbours(*model, store, Retrieval::vectors, text, count), first(vectors));
    expect_same(find_neighbours(*model, store, Retrieval::fused, text, count), fuse(std::array{words, vectors}, count));
    expect_same(find_neighbours(*model, store, Retrieval::sift, text, count),
                store.sift(encoder_of(*model), embedding(*model, text), count));
  }
  EXPECT_TRUE(find_neighbours(*model, store, Retrieval::vectors, {}, 5).empty());
}

TEST_F(RetrievalTest, ARequestSaysHowItsNeighboursWereFound) {
  const std::vector<Token> prompt = prose_tokens(*model, 40);
  const SamplingOptions sampling{.max_tokens = 2, .stop = {}};
  const auto report_of = [&](Retrieval retrieval) {
    return Session(model, &store, small_options(retrieval)).complete(prompt, sampling).report;
  };
  EXPECT_EQ(report_of(Retrieval::bm25).retrieval, Retrieval::bm25);
  HONE_EXPECT_ERROR(report_of(Retrieval::vectors), ErrorCode::not_found, "--vectors");
  store_vectors(*model, store);
  for (const Retrieval retrieval : {Retrieval::bm25, Retrieval::vectors, Retrieval::fused, Retrieval::sift}) {
    const Report report = report_of(retrieval);
    EXPECT_EQ(report.retrieval, retrieval);
    EXPECT_EQ(report.seconds.front().first, "retrieve");
    const auto expected = find_neighbours(*model, store, retrieval, prompt, 4);
    ASSERT_EQ(report.neighbours.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(report.neighbours[i].score, expected[i].score);
      EXPECT_EQ(report.neighbours[i].ordinal, store.chunk(expected[i].chunk_id).ordinal);
      EXPECT_EQ(report.neighbours[i].in_context, i < 2);
    }
  }
}

TEST_F(RetrievalTest, EveryProtocolEvaluatesWithIt) {
  store_vectors(*model, store);
  const fs::path file = shared->folder.path() / "held/out.txt";
  const std::vector<Token> tokens = model->tokenizer().encode(read_file(file));
  for (const Protocol protocol : {Protocol::continuation, Protocol::score, Protocol::complete}) {
    // What is mixed of everything, in bits; and the neighbours that it rests on.
    const auto bits = [&](Retrieval retrieval) {
      EvaluationOptions options;
      options.protocol = protocol;
      options.offset = 4;
      options.prefix = 40;
      options.continuation = 20;
      options.run_published = false;
      options.session = small_options(retrieval);
      const Evaluation evaluation = evaluate(model, store, {file}, options);
      EXPECT_EQ(evaluation.windows, 1u);
      return evaluation.tables[0].rows.back().bits;
    };
    const auto neighbours = [&](Retrieval retrieval) {
      const auto text = std::span(tokens).subspan(4, protocol == Protocol::score ? 60 : 40);
      std::vector<int64_t> ids;
      for (const Neighbour& one : find_neighbours(*model, store, retrieval, text, small_options(retrieval).neighbours))
        ids.push_back(one.chunk_id);
      return ids;
    };
    size_t others = 0;
    for (const Retrieval retrieval : {Retrieval::vectors, Retrieval::fused, Retrieval::sift}) {
      if (neighbours(retrieval) == neighbours(Retrieval::bm25)) continue;
      EXPECT_NE(bits(retrieval), bits(Retrieval::bm25)) << name(retrieval);
      ++others;
    }
    EXPECT_GT(others, 0u);
  }
}

TEST_F(RetrievalTest, VectorsOfAnEncoder) {
  const fs::path bert = tiny_model("bert");
  const auto encoder = TextEncoder::open(bert, {.pooling = Pooling::mean});
  EXPECT_EQ(open_encoder(store), nullptr);
  HONE_EXPECT_ERROR(open_encoder(store, bert), ErrorCode::bad_input, "leave out --encoder");
  remember_encoder(store, encoder.get(), bert);
  const auto opened = open_encoder(store);
  ASSERT_NE(opened, nullptr);
  EXPECT_EQ(opened->identity(), encoder->identity());

  EXPECT_EQ(store_vectors(*encoder, store), store.chunk_count());
  EXPECT_EQ(store_vectors(*encoder, store), 0u);
  const std::vector<Token> text = prose_tokens(*model, 40);
  const std::string written = model->tokenizer().decode(text);
  const Matrix vector = encoder->embed(std::span(&written, 1));
  const auto expected = store.nearest(encoder_of(*encoder), vector.row(0), 5);
  const auto ids_of = [](const std::vector<Neighbour>& neighbours) {
    std::vector<int64_t> ids;
    for (const Neighbour& neighbour : neighbours) ids.push_back(neighbour.chunk_id);
    return ids;
  };
  EXPECT_EQ(ids_of(find_neighbours(*model, store, Retrieval::vectors, text, 5, {}, encoder.get())), ids_of(expected));
  EXPECT_EQ(ids_of(find_neighbours(*encoder, store, Retrieval::vectors, written, 5)), ids_of(expected));
  EXPECT_EQ(ids_of(find_neighbours(*encoder, store, Retrieval::bm25, written, 5)),
            ids_of(store.neighbours(written, 5)));
  EXPECT_EQ(ids_of(find_neighbours(*encoder, store, Retrieval::fused, written, 5)),
            ids_of(find_neighbours(*model, store, Retrieval::fused, text, 5, {}, encoder.get())));
  EXPECT_TRUE(find_neighbours(*encoder, store, Retrieval::vectors, "", 5).empty());
  HONE_EXPECT_ERROR(find_neighbours(*model, store, Retrieval::vectors, text, 5), ErrorCode::bad_input, "--vectors");

  SessionOptions options = small_options(Retrieval::vectors);
  options.encoder = encoder;
  const Report report = Session(model, &store, options).complete(text, {.max_tokens = 1, .stop = {}}).report;
  ASSERT_EQ(report.neighbours.size(), 4u);
  EXPECT_EQ(report.neighbours[0].score, expected[0].score);
}

TEST_F(RetrievalTest, AnEncoderThatMovedOrChanged) {
  const TemporaryFolder places;
  const fs::path first = places.path() / "first", second = places.path() / "second";
  fs::copy(golden_directory() / "models" / "bert", first, fs::copy_options::recursive);
  const auto encoder = TextEncoder::open(first, {.layer = 2});
  HONE_EXPECT_ERROR(remember_encoder(store, encoder.get(), places.path() / "m\xe8"), ErrorCode::bad_input, "UTF-8");
  HONE_EXPECT_ERROR(remember_encoder(store, encoder.get()), ErrorCode::bad_input, "by its path");
  remember_encoder(store, encoder.get(), first);
  store_vectors(*encoder, store);
  fs::rename(first, second);
  HONE_EXPECT_ERROR(open_encoder(store), ErrorCode::not_found, "--encoder");
  const auto moved = open_encoder(store, second);
  EXPECT_EQ(store.chunks_without_vector(encoder_of(*moved)).size(), 0u);
  places.write("second/1_Pooling/config.json", R"({"pooling_mode_mean_tokens": true})");
  HONE_EXPECT_ERROR(open_encoder(store, second), ErrorCode::bad_input, "another encoder");
  HONE_EXPECT_ERROR(open_encoder(store, tiny_model("bert")), ErrorCode::bad_input, "another encoder");
  store.set_value("encoder", std::as_bytes(std::span("{}", 2)));
  HONE_EXPECT_ERROR(open_encoder(store), ErrorCode::corrupt, "--encoder");
  remember_encoder(store, nullptr);
  EXPECT_EQ(open_encoder(store), nullptr);
}

class RetrievalProgram : public testing::Test {
 protected:
  const std::string llama = tiny_model("llama").string();
  std::string place(const std::string& name) const { return (folder.path() / name).string(); }
  json object_of(std::vector<std::string> arguments) const {
    arguments.emplace_back("--json");
    const Result result = run_program(arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    return json::parse(result.out, nullptr, false);
  }
  void expect_failure(const std::vector<std::string>& arguments, const std::string& words) const {
    const Result result = run_program(arguments);
    EXPECT_EQ(result.code, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_NE(result.err.find(words), std::string::npos) << result.err;
  }
  json index(std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {"index", llama, place("texts"), "-o", place("store"), "--chunk-tokens", "40"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return object_of(arguments);
  }

  TemporaryFolder folder;
};

TEST_F(RetrievalProgram, FromIndexToAnswer) {
  for (size_t subject = 0; subject < 3; ++subject)
    for (uint64_t file = 0; file < 2; ++file)
      folder.write("texts/" + std::to_string(subject) + std::to_string(file), prose(subject, 8, 10 * subject + file));
  folder.write("held/out", prose(1, 14, 77));
  EXPECT_EQ(index()["vectors_computed"], 0);
  const std::string question = prose(1, 3, 50);
  const std::vector<std::string> search = {"search", place("store"), question, "-k", "3", "--retrieval"};
  const auto with = [](std::vector<std::string> arguments, const std::vector<std::string>& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  const std::vector<std::string> complete = {"complete",     llama, question, "--store",
                                             place("store"), "-n",  "2",      "--retrieval"};
  const std::vector<std::string> eval = {
      "eval",     llama, place("held/out"), "--store", place("store"),   "--offset",   "4",
      "--prefix", "40",  "--continuation",  "20",      "--no-published", "--retrieval"};
  const std::string what_to_do = "--vectors`";
  for (const std::string way : {"vectors", "fused", "sift"}) {
    expect_failure(with(search, {way}), "--model");
    expect_failure(with(search, {way, "--model", llama}), what_to_do);
    expect_failure(with(complete, {way}), what_to_do);
    expect_failure(with(eval, {way}), what_to_do);
  }
  EXPECT_EQ(run_program(with(search, {"nonsense"})).code, 2);

  const json indexed = index({"--vectors"});
  EXPECT_EQ(indexed["vectors_computed"], indexed["chunks"]);
  EXPECT_EQ(index({"--vectors"})["vectors_computed"], 0);
  const std::string told =
      run_program({"index", llama, place("texts"), "-o", place("store"), "--chunk-tokens", "40", "--vectors"}).out;
  EXPECT_NE(told.find("vectors of all chunks are kept, 0 computed now"), std::string::npos) << told;
  for (const std::string way : {"bm25", "vectors", "fused", "sift"}) {
    std::vector<std::string> by = {way};
    if (way != "bm25") by.insert(by.end(), {"--model", llama});
    const json found = object_of(with(search, by));
    EXPECT_EQ(found["retrieval"], way);
    EXPECT_EQ(found["neighbours"].size(), 3u);
    const Result shown = run_program(with(search, by));
    EXPECT_EQ(shown.code, 0);
    EXPECT_NE(shown.out.find("  #"), std::string::npos);
    const json answer = object_of(with(complete, {way}))["hone"];
    EXPECT_EQ(answer["retrieval"], way);
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(answer["neighbours"][i]["score"], found["neighbours"][i]["score"]);
    EXPECT_EQ(object_of(with(eval, {way}))["retrieval"], way);
  }
  expect_failure(with(search, {"vectors", "--model", tiny_model("qwen2").string()}), "was built with model");

  // A new file has no vectors until they are asked for; the file of vectors may go at any time.
  folder.write("texts/new", prose(2, 8, 91));
  index();
  expect_failure(with(search, {"vectors", "--model", llama}), "have no vector");
  const json more = index({"--vectors"});
  EXPECT_EQ(more["chunks_added"], 0);
  EXPECT_GT(more["vectors_computed"], 0);
  EXPECT_LT(more["vectors_computed"], more["chunks"]);
  fs::remove(folder.path() / "store" / "vectors");
  EXPECT_EQ(index({"--vectors"})["vectors_computed"], more["chunks"]);
}

TEST_F(RetrievalProgram, TheStoreRemembersItsEncoder) {
  for (size_t subject = 0; subject < 3; ++subject)
    folder.write("texts/" + std::to_string(subject), prose(subject, 16, 10 * subject));
  folder.write("held/out", prose(1, 14, 77));
  const std::string bert = place("bert"), question = prose(1, 3, 50);
  fs::copy(golden_directory() / "models" / "bert", bert, fs::copy_options::recursive);
  EXPECT_EQ(run_program({"index", llama, place("texts"), "-o", place("store"), "--encoder", bert}).code, 2);
  const json indexed = index({"--vectors", "--encoder", bert});
  EXPECT_EQ(indexed["vectors_computed"], indexed["chunks"]);
  EXPECT_EQ(index({"--vectors"})["vectors_computed"], 0) << "with the encoder that it remembers";

  const std::vector<std::string> search = {"search", place("store"), question, "-k", "3", "--retrieval", "vectors"};
  const json found = object_of(search);
  EXPECT_EQ(found["neighbours"].size(), 3u);
  std::vector<std::string> with_model = search;
  with_model.insert(with_model.end(), {"--model", llama});
  const Result refused = run_program(with_model);
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.err.find("--model is for vectors of a model's own states"), std::string::npos) << refused.err;
  const json answer =
      object_of({"complete", llama, question, "--store", place("store"), "-n", "2", "--retrieval", "vectors"})["hone"];
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(answer["neighbours"][i]["path"], found["neighbours"][i]["path"]);
  EXPECT_EQ(object_of({"eval", llama, place("held/out"), "--store", place("store"), "--offset", "4", "--prefix", "40",
                       "--continuation", "20", "--no-published", "--retrieval", "fused"})["retrieval"],
            "fused");

  fs::rename(bert, place("elsewhere"));
  expect_failure(search, "--encoder");
  std::vector<std::string> moved = search;
  moved.insert(moved.end(), {"--encoder", place("elsewhere")});
  EXPECT_EQ(object_of(moved)["neighbours"], found["neighbours"]);
  moved.back() = tiny_model("bert").string();
  expect_failure(moved, "another encoder");

  EXPECT_EQ(index({"--vectors", "--encoder", "own"})["vectors_computed"], indexed["chunks"]);
  expect_failure(search, "--model");
}

TEST_F(RetrievalProgram, TheStoreRemembersHowItsEncoderIsAsked) {
  for (size_t subject = 0; subject < 3; ++subject)
    folder.write("texts/" + std::to_string(subject), prose(subject, 16, 10 * subject));
  const std::string bert = (golden_directory() / "models" / "bert").string(), question = prose(1, 3, 50);
  const auto ask = [&] {
    return object_of({"search", place("store"), question, "-k", "3", "--retrieval", "vectors"})["neighbours"];
  };
  const json chunks = index({"--vectors", "--encoder", bert})["chunks"];
  const json by_default = ask();
  const std::vector<std::string> asked = {"--vectors", "--encoder",      bert,           "--layer", "1", "--pooling",
                                          "mean",      "--no-normalize", "--max-tokens", "20"};
  EXPECT_EQ(index(asked)["vectors_computed"], chunks);
  EXPECT_EQ(index({"--vectors"})["vectors_computed"], 0) << "as it remembers";
  std::filesystem::copy(bert, place("moved"), std::filesystem::copy_options::recursive);
  EXPECT_EQ(index({"--vectors", "--encoder", place("moved")})["vectors_computed"], 0) << "the same one elsewhere";
  const Store store = Store::open(place("store"));
  const auto encoder =
      TextEncoder::open(bert, {.layer = 1, .pooling = Pooling::mean, .normalize = false, .max_tokens = 20});
  EXPECT_EQ(open_encoder(store)->identity(), encoder->identity());
  const auto expected = find_neighbours(*encoder, store, Retrieval::vectors, question, 3);
  const json found = ask();
  EXPECT_NE(found, by_default);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(found[i]["chunk"], expected[i].chunk_id);

  const auto expect_bad_usage = [&](const std::vector<std::string>& more, const std::string& words) {
    std::vector<std::string> arguments = {"index", llama, place("texts"), "-o", place("store"), "--vectors"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Result result = run_program(arguments);
    EXPECT_EQ(result.code, 2);
    EXPECT_NE(result.err.find(words), std::string::npos) << result.err;
  };
  for (const char* option : {"--layer=1", "--pooling=mean", "--normalize", "--max-tokens=20"}) {
    expect_bad_usage({option}, "requires --encoder");
    expect_bad_usage({option, "--encoder", "own"}, "leave them out");
  }
}

}  // namespace
}  // namespace hone::test::retrieval_test
