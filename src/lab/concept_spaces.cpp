#include "lab/concept_spaces.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/files.h"
#include "base/random.h"
#include "hone/data.h"
#include "hone/masks.h"
#include "lab/few_shot_draws.h"
#include "lab/image_data.h"
#include "lab/lab_cache.h"
#include "lab/text_vectors.h"

namespace hone::lab {
namespace {

namespace fs = std::filesystem;

constexpr const char* text_title = "CLINC150, MiniLM";
constexpr const char* image_title = "MNIST, LeNet of width 192";
constexpr const char* image_net = "mnist_scaled_model_seed1_hd192_ss1.0_ot-adam_lr0.0008bs100_ne50.safetensors";
constexpr size_t piece_tokens = 64;

struct Labelled {
  Matrix x;
  std::vector<int> y;
};

// `count` of some points, in a random order of the stream (seed, name).
Labelled some_of(ConstMatrixView x, std::span<const int> y, size_t count, uint64_t seed, std::string_view name) {
  if (count > y.size())
    throw Error(ErrorCode::bad_input,
                fmt::format("{}: {} are needed, the data hold {}; install the whole data set", name, count, y.size()));
  const std::vector<size_t> order = RandomStream(seed, name).draw(y.size(), count);
  Labelled some{Matrix::uninitialized(count, x.cols), {}};
  for (size_t i = 0; i < count; ++i) {
    std::ranges::copy(x.row(order[i]), some.x.row(i).begin());
    some.y.push_back(y[order[i]]);
  }
  return some;
}

struct Texts {
  std::vector<std::string> texts;
  std::vector<int> labels;
};

using Intents = std::map<std::string, std::vector<std::string>>;

// A label is the number of its intent among those of the training data.
Texts flat(const Intents& by_intent, const Intents& train) {
  Texts all;
  for (const auto& [intent, some] : by_intent) {
    const auto found = train.find(intent);
    if (found == train.end())
      throw Error(ErrorCode::bad_input, fmt::format("CLINC150: no training text has the intent '{}'", intent));
    all.texts.insert(all.texts.end(), some.begin(), some.end());
    all.labels.insert(all.labels.end(), some.size(), static_cast<int>(std::distance(train.begin(), found)));
  }
  return all;
}

// Features of the training and test points, and the file that the autoencoder learns from.
struct Features {
  Labelled train, test;
  fs::path learns_from;
};

// Rows of several matrices, kept below the cache directory under a hash of what they are.
fs::path joined(std::span<const Matrix> parts) {
  size_t rows = 0;
  for (const Matrix& part : parts) rows += part.rows();
  Matrix all = Matrix::uninitialized(rows, parts.front().cols());
  float* to = all.data();
  for (const Matrix& part : parts) to = std::copy_n(part.data(), part.size(), to);
  const std::string hash = content_hash(std::as_bytes(std::span(all.data(), all.size())));
  fs::path file = lab_cache(fmt::format("features-{}.npy", hash));
  if (!is_there(file)) write_npy(file, all);
  return file;
}

void require_same(const std::string& found, const Json& space, const char* key) {
  if (found != space.at(key))
    throw Error(ErrorCode::bad_input, fmt::format("{}: its data are not those that this run began with",
                                                  space.at("title").get<std::string>()));
}

Features text_features(const Json& space, uint64_t seed, const Watch& watch) {
  require_same(sha256(clinc150_file()), space, "data_sha256");
  require_same(sha256(minilm_folder() / "model.safetensors"), space, "encoder_sha256");
  std::vector<std::string> pieces;
  if (const size_t count = space.at("pieces"); count > 0) {
    pieces = corpus_pieces(count);
    require_same(texts_hash(pieces), space, "pieces_hash");
  }
  const Clinc150 data = read_clinc150(clinc150_file());
  const Texts train = flat(data.train, data.train), test = flat(data.test, data.train);
  const auto encoder = TextEncoder::open(minilm_folder());
  const Matrix train_x = read_npy(cached_vectors(*encoder, train.texts, watch));
  const Matrix test_x = read_npy(cached_vectors(*encoder, test.texts, watch));
  std::vector<Matrix> learned;
  learned.push_back(train_x.copy());
  if (!pieces.empty()) {
    const auto quick = TextEncoder::open(minilm_folder(), {.precision = Precision::int8, .max_tokens = piece_tokens});
    learned.push_back(read_npy(cached_vectors(*quick, pieces, watch)));
  }
  return {some_of(train_x, train.labels, space.at("points"), seed, "points"),
          some_of(test_x, test.labels, space.at("queries"), seed, "queries"), joined(learned)};
}

Features image_features(const Json& space, uint64_t seed, const Watch& watch) {
  require_same(image_data_hash("MNIST"), space, "data_hash");
  const ImageData data = read_image_data("MNIST");
  const FeatureSpace all = feature_space(LeNet::open(checked_file(space.at("net"))), data, watch);
  const Matrix parts[] = {all.train.copy()};
  return {some_of(all.train, data.train.labels, space.at("points"), seed, "points"),
          some_of(all.test, data.test.labels, space.at("queries"), seed, "queries"), joined(parts)};
}

Sae trained_sae(const fs::path& learns_from, const Json& settings, uint64_t seed, const Watch& watch) {
  const auto batches = open_activations(learns_from, seed);
  SaeConfig config{.inputs = batches->width(), .features = 8 * batches->width(), .active = settings.at("active")};
  const SaeTraining training{.steps = settings.at("steps"),
                             .batch = settings.at("batch"),
                             .initial_active = settings.at("initial_active"),
                             .annealing_steps = settings.at("annealing_steps"),
                             .warmup_steps = settings.at("warmup_steps"),
                             .seed = seed};
  const std::string source = batches->identity();
  const std::string hash = content_hash(fmt::format("{} {} {}", source, settings.dump(), seed));
  const fs::path checkpoint = lab_cache(fs::path(fmt::format("sae-{}", hash)) / "checkpoint.safetensors");
  const fs::path folder = checkpoint.parent_path();
  if (is_there(folder / "cfg.json")) return Sae::open(folder);
  SaeTrainer trainer =
      is_there(checkpoint) ? SaeTrainer::load(checkpoint, source) : SaeTrainer(Sae::create(config, seed), training);
  trainer.run(*batches, checkpoint, 200, {}, watch);
  trainer.sae().save(folder);
  std::error_code ignored;
  fs::remove(checkpoint, ignored);
  return Sae::open(folder);
}

Json sae_settings(Size size) {
  const bool quick = size == Size::quick, full = size == Size::full;
  return {{"active", 16},
          {"steps", quick  ? 600
                    : full ? 20000
                           : 4000},
          {"batch", quick ? 1024 : 4096},
          {"initial_active", 128},
          {"annealing_steps", quick  ? 300
                              : full ? 10000
                                     : 2000},
          {"warmup_steps", quick  ? 100
                           : full ? 5000
                                  : 1000}};
}

}  // namespace

Json concept_spaces_config(Size size) {
  const bool quick = size == Size::quick, full = size == Size::full;
  const size_t points = quick ? 3000 : 15000, queries = quick ? 150 : 1000;
  Json text = {{"title", text_title},
               {"data_sha256", sha256(clinc150_file())},
               {"encoder_sha256", sha256(minilm_folder() / "model.safetensors")},
               {"pieces", quick ? 0 : 100000},
               {"points", points},
               {"queries", full ? 4500 : queries},
               {"sae", sae_settings(size)},
               {"local", {{"neighbours", 50}, {"learning_rate", 0.01}, {"epochs", 50}}}};
  if (const size_t pieces = text.at("pieces"); pieces > 0) text["pieces_hash"] = texts_hash(corpus_pieces(pieces));
  Json image = {{"title", image_title},
                {"data_hash", image_data_hash("MNIST")},
                {"net", saved_file_config(image_net)},
                {"points", points},
                {"queries", full ? 4500 : queries},
                {"sae", sae_settings(size)},
                {"local", published_parameters(192).at("local")}};
  return {{"spaces", {text, image}}, {"ridge", 1e-4}};
}

ConceptSpace make_concept_space(const Json& config, size_t index, const Watch& watch) {
  const Json& settings = config.at("spaces").at(index);
  const uint64_t seed = config.at("seed");
  Features found =
      settings.contains("net") ? image_features(settings, seed, watch) : text_features(settings, seed, watch);
  const Sae sae = trained_sae(found.learns_from, settings.at("sae"), seed, watch);
  ConceptSpace space;
  space.train_labels = std::move(found.train.y);
  space.test_labels = std::move(found.test.y);
  space.features.train = sae.inputs(found.train.x);
  space.features.test = sae.inputs(found.test.x);
  space.train_codes = sae.encode(space.features.train);
  space.test_codes = sae.encode(space.features.test);
  const Matrix directions = sae.directions();
  space.again.train = sae.decode(space.train_codes, directions);
  space.again.test = sae.decode(space.test_codes, directions);
  space.concepts.train = dense_codes(space.train_codes, sae.config.features);
  space.concepts.test = dense_codes(space.test_codes, sae.config.features);
  const fs::path test_file =
      lab_cache("test-" + content_hash(std::as_bytes(std::span(found.test.x.data(), found.test.x.size()))) + ".npy");
  if (!is_there(test_file)) write_npy(test_file, found.test.x);
  space.evaluation = evaluate(sae, *open_activations(test_file, seed), 0, 1e-4, watch);
  // Whether a feature is dead is a matter of what it was trained on: test points are too few to tell.
  space.evaluation.dead_share = evaluate(sae, *open_activations(found.learns_from, seed), 0, 1e-4, watch).dead_share;
  const auto classes = static_cast<size_t>(*std::ranges::max_element(space.train_labels)) + 1;
  for (ConceptView* view : {&space.features, &space.again, &space.concepts})
    view->head = fit_head(view->train, space.train_labels, classes, {.ridge = config.at("ridge")}, watch);
  return space;
}

}  // namespace hone::lab
