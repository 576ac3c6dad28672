// adapt: the ways to learn from neighbours, and one request's life. Kernels use the one thread pool, and a Store may be
// used by one thread at a time: one thread at a time calls what is here.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "hone/base.h"
#include "hone/decide.h"
#include "hone/encoder.h"
#include "hone/model.h"
#include "hone/store.h"

namespace hone {

// --- Scoring a text under the base ---

struct ScoreOptions {
  size_t window = 512;  // tokens the model sees at once
  size_t stride = 256;  // window t starts at t · stride; what the window before it has scored is not counted again
  // llama.cpp's perplexity instead: windows side by side (stride is ignored), an incomplete last one left out, and of
  // each window only its second half counted, from token window/2 + 1 on.
  bool second_halves = false;
  size_t max_windows = 0;  // 0: all
};

struct TextScore {
  size_t tokens = 0;  // that were predicted
  size_t bytes = 0;   // of those tokens' text
  double bits = 0;

  double bits_per_byte() const { return bits / static_cast<double>(bytes); }
  double perplexity() const;  // 2^(bits / tokens)
};

// Bits of `text` under the base. Where the model's file says that texts start with BOS, every window does.
// Throws Error{bad_input} if the text is too short to predict a token, or window or stride do not fit;
// Error{corrupt} for a loss that is not finite, Error{cancelled}. A window too long with BOS is a token shorter.
TextScore score(const Model& model, std::string_view text, const ScoreOptions& options, const Watch& watch = {});

// Full-batch Adam (Kingma & Ba 2015) on a LoRA adapter; state starts empty and dies with the object.
class Adam {
 public:
  // β_1, β_2 and ε as in the paper; what is given is not checked.
  explicit Adam(float learning_rate, float beta1 = 0.9f, float beta2 = 0.999f, float epsilon = 1e-8f);
  // One step on every matrix that has a gradient. Throws Error{bad_input} for one that the adapter does not have.
  void step(Adapter& adapter, const std::map<MatrixId, Adapter::LowRank>& gradients);

 private:
  struct Moments {
    Matrix first, second;
  };
  void update(Matrix& values, const Matrix& gradient, Moments& moments) const;

  float learning_rate_, beta1_, beta2_, epsilon_;
  int steps_ = 0;
  std::map<MatrixId, std::pair<Moments, Moments>> moments_;
};

// --- Finding neighbours ---

// A store's dense vectors come from a TextEncoder of its own, which reads texts, or from the hidden states of the
// store's model, which reads its own tokens: TextEncoder::of(model) with its defaults.
Encoder encoder_of(const Model& model);
Encoder encoder_of(const TextEncoder& encoder);  // under its identity()
// The model's vector [width] of tokens, BOS not included; a text of no token stands for 0. Throws Error{bad_input} for
// an id outside the vocabulary, Error{cancelled}.
std::vector<float> embedding(const Model& model, std::span<const Token> tokens, const CancelToken& cancel = {});
// Prunes the store's vectors and computes and keeps those of all chunks that have none, a few at a time: what was kept
// before an error or a kill is not computed again. Returns how many were computed. Throws Error{io, cancelled}.
size_t store_vectors(const Model& model, Store& store, const Watch& watch = {});
size_t store_vectors(const TextEncoder& encoder, Store& store, const Watch& watch = {});

// Writes into the store (opened with Store::create) which encoder makes its vectors, the one that is at `path` and was
// opened with precision fp32; nullptr: the model's own hidden states. Throws Error{bad_input} if `path` is missing
// or not UTF-8.
void remember_encoder(Store& store, const TextEncoder* encoder, const std::filesystem::path& path = {});
// Whether the store remembers this encoder, whatever its options. Throws Error{corrupt}.
bool remembers(const Store& store, const TextEncoder& encoder);
// Opens the encoder that the store remembers, from where it was or from `elsewhere`; nullptr if it remembers none.
// Throws Error{bad_input} if what is there now has another hash or `elsewhere` is given and the store remembers none,
// Error{not_found, corrupt, unsupported} as TextEncoder::open does; each says what to do.
std::shared_ptr<const TextEncoder> open_encoder(const Store& store, const std::filesystem::path& elsewhere = {});

// The `count` chunks most similar to a text, most similar first; ties by id. Retrieval::fused fuses the 200 best of
// either list (`count` if that is more). Vectors are the encoder's, if there is one, or the model's. Throws what
// Store::nearest throws.
std::vector<Neighbour> find_neighbours(const Model& model, const Store& store, Retrieval retrieval,
                                       std::span<const Token> text, size_t count, const CancelToken& cancel = {},
                                       const TextEncoder* encoder = nullptr);
std::vector<Neighbour> find_neighbours(const TextEncoder& encoder, const Store& store, Retrieval retrieval,
                                       std::string_view text, size_t count, const CancelToken& cancel = {});

// --- Learning from neighbours ---

// Which layers learn: [first_adapted_layer, L). −1 means hone's default, the top quarter (8 of SmolLM2's 30).
int default_first_adapted_layer(const Model& model);

// The published protocol ([SaG] §2, language modelling): LoRA on every linear layer, one Adam step a neighbour, most
// similar first, mean cross-entropy of the neighbour's tokens.
struct PublishedOptions {
  int first_layer = 0;
  int rank = 4;  // on all layers about 1 % of the weights of a small model
  float learning_rate = 1e-3f;
  uint64_t seed = 0;
};
// `neighbours` are token sequences, BOS not included. `after`, if given, is called behind each with how many were read
// so far and the adapter as it is then. Throws Error{bad_input} for options that do not fit, Error{cancelled}.
Adapter published_protocol(const Model& model, std::span<const std::vector<Token>> neighbours,
                           const PublishedOptions& options, const Watch& watch = {},
                           const std::function<void(size_t read, const Adapter& adapter)>& after = {});

// What was learned from a corpus at indexing, for layers [first_layer, L).
struct CorpusStatistics {
  struct Block {
    std::vector<float> row, column;  // [out], [in]: the preconditioner is D[o, i] = row[o] · column[i]
    float relative_step = 1;         // of this matrix; 0 where neighbours' gradients do not help their successors
  };
  int first_layer = 0;
  std::map<MatrixId, Block> blocks;

  // All fields, in the byte order of this machine: what a store keeps, and deserialize() reads.
  std::vector<std::byte> serialize() const;
  static CorpusStatistics deserialize(std::span<const std::byte> bytes);  // throws Error{corrupt}
};

// Bytes of gradient rows that a store keeps where nobody gives another budget: what it was told last, else the default.
// Throws as Store::value does.
constexpr uint64_t default_gradient_budget = 2ull << 30;
uint64_t gradient_budget(const Store& store);
// Needs Store::create(). Throws as Store::set_value does.
void remember_gradient_budget(Store& store, uint64_t bytes);

struct LearnOptions {
  int first_layer = -1;  // −1: default_first_adapted_layer
  size_t preconditioner_chunks = 24;
  size_t pairs = 24;  // of a chunk and its successor
  size_t neighbours = 5;
  std::optional<uint64_t> gradient_budget = std::nullopt;  // nullopt: the store's own
  uint64_t seed = 0;
};
// Factored second moments of chunk gradients (Adafactor form, Shazeer & Stern 2018) and relative step sizes of mean 1,
// η_b ∝ max(0, −mean ⟨g_successor, Δ_b⟩ / mean ‖Δ_b‖²_Fisher), Δ_b from the chunk's neighbours in other files.
// Saves them in the store (opened with Store::create) and returns them. Throws Error{bad_input} if there is no chunk of
// two tokens or more or the store is open for reading, Error{corrupt} if a loss is not finite,
// Error{cancelled, io}.
CorpusStatistics learn_statistics(const Model& model, Store& store, const LearnOptions& options,
                                  const Watch& watch = {});
// first_layer −1 means default_first_adapted_layer, here and below.
bool has_statistics(const Model& model, const Store& store, int first_layer);
// Throws Error{not_found} that says to run `hone index` if the store holds none for these layers, Error{corrupt, io}.
CorpusStatistics load_statistics(const Model& model, const Store& store, int first_layer);

struct StoredGradients {
  size_t computed = 0;
  size_t chunks = 0;  // that have a row now; the budget has no room for those of the others
};
// Computes and keeps the gradient rows of all chunks that have none, as far as the budget goes. Throws Error{io} for a
// row that cannot be kept (full disk), Error{corrupt} where a chunk's loss is not finite, Error{cancelled}; rows that
// were kept stay. Here and below: a budget of nullopt is the store's own, and an int8 model has rows of its own.
StoredGradients store_gradients(const Model& model, const Store& store, const CorpusStatistics& statistics,
                                std::optional<uint64_t> gradient_budget, const Watch& watch = {});

// ΔW = −relative_step · mean over neighbours of G / D at the base weights; the step size η scales it later. Close to
// Retrievable Gradients (Su et al. 2026, arXiv 2606.15734). Gradient rows come from the store where it keeps them and
// are computed and kept otherwise. `computed`, if given, counts those.
// `form`: fp32 for dense additions, int8 for quantized ones; the way back is the model's. Throws Error{corrupt} as
// above, Error{cancelled}.
Adapter neighbour_direction(const Model& model, const Store& store, const CorpusStatistics& statistics,
                            std::span<const Chunk> neighbours, std::optional<uint64_t> gradient_budget,
                            Precision form = Precision::fp32, const Watch& watch = {}, size_t* computed = nullptr);
// The same of the mean loss on `tokens` (dynamic evaluation, Krause et al. 2018; one step), the way back in `form`.
// `hidden`: the base's residual stream [tokens with BOS, D] below the statistics' first layer, where it is known.
// Throws Error{corrupt} as above, Error{cancelled}.
Adapter prompt_direction(const Model& model, const CorpusStatistics& statistics, std::span<const Token> tokens,
                         Precision form = Precision::fp32, const CancelToken& cancel = {}, ConstMatrixView hidden = {});

// --- One request ---

// What a request may do. An expert is (context, direction, step size); the mixture of all of them answers.
struct SessionOptions {
  size_t neighbours = 10;         // whose gradients make the neighbour direction
  size_t context_neighbours = 3;  // that are read as text before the prompt
  std::vector<float> neighbour_steps = {1e-4f, 3e-4f, 6e-4f};
  std::vector<float> prompt_steps = {1e-4f, 3e-4f};   // along the prompt's own gradient
  std::vector<float> context_steps = {1e-4f, 3e-4f};  // neighbour direction, reading the retrieved context
  int first_layer = -1;                               // −1: default_first_adapted_layer
  decide::Sharing sharing = decide::Sharing::fixed_share;
  double floor = 0.02;             // every token keeps floor × the base's probability
  size_t block_tokens = 128;       // of the prompt; a block is judged by what the tokens before it made
  size_t judged_blocks = 1;        // so many of the last ones; each costs a lesson of its own
  size_t answering_experts = 4;    // beside the base, heaviest first; the others' weight goes to these in proportion
  bool learn_from_answer = false;  // generated tokens move the weights too
  std::optional<uint64_t> gradient_budget = std::nullopt;  // nullopt: the store's own
  Retrieval retrieval = Retrieval::bm25;                   // how the neighbours are found
  std::shared_ptr<const TextEncoder> encoder = nullptr;    // who made the store's vectors; nullptr: the model itself
};

struct SamplingOptions {
  size_t max_tokens = 64;
  float temperature = 0;  // 0: greedy
  size_t top_k = 0;       // 0: all
  float top_p = 1;        // 1: all
  uint64_t seed = 0;
  std::vector<std::string> stop = {};  // the answer ends before the first of these, also where it spans tokens
};

// Seconds per stage, in the order in which the stages ran first.
using StageSeconds = std::vector<std::pair<std::string, double>>;

struct ExpertWeight {
  std::string name;
  double prior = 0;
  double weight = 0;
};

// What was decided, and what it rests on.
struct Report {
  struct Source {
    std::string path;
    int ordinal = 0;
    double score = 0;
    bool in_context = false;
  };
  Retrieval retrieval = Retrieval::bm25;
  std::vector<Source> neighbours;     // of the whole prompt
  std::vector<ExpertWeight> experts;  // weights at the answer's start, before the floor is mixed in
  size_t evidence_tokens = 0;         // prompt tokens that moved the weights
  double floor = 0;
  double bound_bits = 0;             // the evidence tokens' code is longer than the base's by at most this
  double answer_bound_bits = 0;      // and the answer's by at most this, whatever the experts say
  double evidence_base_bits = 0;     // of the evidence tokens under the base
  double evidence_mixture_bits = 0;  // and under the mixture
  size_t gradients_computed = 0;     // not found in the store
  StageSeconds seconds;
  std::string protocol = "complete";
  std::string base_hash;
  std::string note;  // "" or why adapting was not possible, e.g. no neighbour found
};

struct Completion {
  std::string text;
  std::vector<Token> tokens;
  bool stopped = false;  // by a stop string or an end-of-generation token, not by max_tokens
  double seconds_to_first_token = 0;
  double tokens_per_second = 0;
  Report report;
};

// One request's life: prompt → tokens → neighbours → directions → mixture → answer. Everything it learns is its own and
// dies with it; model and store are only read. One thread at a time.
class Session {
 public:
  // `store` may be nullptr: then nothing teaches and the base answers alone. Throws Error{bad_input} for options out of
  // range, Error{not_found} if the store holds no statistics for the layers, Error{corrupt} if these do not fit.
  Session(std::shared_ptr<const Model> model, const Store* store, SessionOptions options = {});
  ~Session();

  // Continues `prompt` (tokens as the model reads them, BOS not included). `stream`, if given, gets the text piece by
  // piece, whole UTF-8 characters (the last may be cut by max_tokens), nothing of a stop string. Throws
  // Error{bad_input} if prompt and answer do not fit the model's context or the prompt is empty, Error{corrupt} if the
  // base's probabilities are not finite, Error{cancelled}. Retrieved context that does not fit with them is left out;
  // the report's note then says so.
  Completion complete(std::span<const Token> prompt, const SamplingOptions& sampling, const Watch& watch = {},
                      const std::function<void(std::string_view)>& stream = {});

  // −log p of every token of `continuation` under the mixture that `complete` would answer `prompt` with, natural
  // logarithm, and under the base. `admits`: which chunks may be neighbours, empty: all. Throws as complete() does.
  struct Scored {
    std::vector<double> mixture, base;
    Report report;
  };
  Scored score_continuation(std::span<const Token> prompt, std::span<const Token> continuation, const Watch& watch = {},
                            const std::function<bool(const Chunk&)>& admits = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The base alone, with the same sampling. Throws Error{bad_input, corrupt, cancelled} as Session::complete does.
Completion complete_with_base(const Model& model, std::span<const Token> prompt, const SamplingOptions& sampling,
                              const Watch& watch = {}, const std::function<void(std::string_view)>& stream = {});

// --- Evaluation: would adapting have helped, and by how much? ---

enum class Protocol {
  continuation,  // "continue": retrieval sees the prefix only, the continuation is scored
  score,         // as published: retrieve with the text, adapt, score the same text
  complete,      // what Session::complete does, scored on the continuation
};

struct EvaluationOptions {
  Protocol protocol = Protocol::continuation;
  size_t offset = 600;
  size_t prefix = 256;
  size_t continuation = 256;
  size_t windows = 1;  // per file
  SessionOptions session;
  PublishedOptions published;
  size_t published_neighbours = 0;  // 0: as many as teach; with Protocol::score 50, as published
  bool run_published = true;
  double duplicate_share = 0.05;  // of the scored text's 13-grams: more is a near-duplicate
  float one_step = 3e-4f;         // row one-step goes the neighbour step whose ratio to this is nearest 1
};

struct EvaluationRow {
  std::string name;
  std::string settings;
  std::vector<double> bits;  // per window
  double bpb = 0;
  decide::Interval gain;  // of 1 − bits/base_bits
  double gain_median = 0;
  double gain_corpus = 0;    // 1 − Σ bits / Σ base bits
  size_t worse = 0;          // windows with more bits than the base
  double harm_bits_max = 0;  // most bits lost in a window, 0 if none
  double bound_bits = -1;    // −1: this row has no bound
  StageSeconds seconds;      // mean per window
};

struct EvaluationTable {
  std::string neighbours;         // "all" or "without near-duplicates"
  size_t removed = 0;             // near-duplicates among the neighbours, or passed over to find others
  size_t without_neighbours = 0;  // windows that found none: there the base answers in every row that needs them
  size_t without_context = 0;     // windows whose neighbours do not fit the model's context beside the text: likewise
  std::vector<EvaluationRow> rows;
  decide::Interval with_context_minus_context_only;  // of the gains, paired
};

struct Evaluation {
  std::string protocol;
  size_t windows = 0;
  size_t tokens = 0;                 // scored
  std::vector<std::string> skipped;  // files too short for a window, with the reason
  std::vector<EvaluationTable> tables;
};

// Throws Error{bad_input} if no file is long enough or options do not fit, Error{not_found, corrupt, io, cancelled}.
Evaluation evaluate(std::shared_ptr<const Model> model, const Store& store,
                    const std::vector<std::filesystem::path>& files, const EvaluationOptions& options,
                    const Watch& watch = {});

}  // namespace hone
