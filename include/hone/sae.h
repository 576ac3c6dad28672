// sae: top-k sparse autoencoders of activations: training, evaluation, files ([SaG] §4).
// Functions and methods use the one thread pool: one thread calls them at a time, all but image_html and escape_html,
// which any number of threads may call.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "hone/base.h"
#include "hone/model.h"

namespace hone {

struct SaeConfig {
  size_t inputs = 0;        // d, width of the activations
  size_t features = 0;      // S, [SaG]: 8 d
  size_t active = 16;       // k, features that a row keeps
  bool unit_inputs = true;  // rows are divided by their L2 norm first
  bool unit_rows = true;    // decoder rows count by their direction only
  bool pre_bias = false;    // the decoder's bias is subtracted before encoding (Bricken et al. 2023)
  bool relu = false;        // kept values below 0 count as 0 (Gao et al. 2024); [SaG]: no

  bool operator==(const SaeConfig&) const = default;
};

// What the rows of a batch keep: `width` places a row, of which the first counts[i] are used, by ascending feature.
struct SparseCodes {
  SparseCodes() = default;
  SparseCodes(size_t rows, size_t places);

  size_t width = 0;
  std::vector<uint32_t> counts;    // [n]
  std::vector<uint32_t> features;  // [n, width]
  std::vector<float> values;       // [n, width], never 0

  size_t rows() const { return counts.size(); }
  std::span<const uint32_t> row_features(size_t i) const { return {features.data() + i * width, counts[i]}; }
  std::span<const float> row_values(size_t i) const { return {values.data() + i * width, counts[i]}; }
};

// x̂ = decode(top_k(x W_enc + b_enc)), decode(z) = Σ_f z_f w_f + b_dec, w_f the decoder's rows, made unit vectors with
// unit_rows. A row's result does not depend, to the last bit, on the other rows. Const methods use the one thread pool:
// one thread calls them at a time. Moves; copying is spelled copy().
struct Sae {
  SaeConfig config;
  Matrix encoder;                   // [S, d] W_encᵀ
  std::vector<float> encoder_bias;  // [S]
  Matrix decoder;                   // [S, d] W_dec
  std::vector<float> decoder_bias;  // [d]

  // Encoder rows are random directions from the stream (seed, "sae"), W_dec = W_encᵀ, biases 0. Throws
  // Error{bad_input} for active > features or a size of 0.
  static Sae create(const SaeConfig& config, uint64_t seed);
  Sae copy() const;

  // The layout of public SAE libraries: a folder with cfg.json and sae_weights.safetensors (W_enc [d, S], b_enc [S],
  // W_dec [S, d] as decoded, b_dec [d]). L2-normalised inputs are written as their `constant_norm_rescale`, rows of
  // norm √d, with both biases scaled by √d: the same function. Reads architectures topk and standard (a ReLU of all
  // features). Throws Error{not_found, corrupt, unsupported, io} naming file and field.
  static Sae open(const std::filesystem::path& folder);
  void save(const std::filesystem::path& folder) const;

  // x [n, d] as the autoencoder sees it: L2-normalised with unit_inputs. Throws Error{bad_input} for a row that is not
  // finite or another width.
  Matrix inputs(ConstMatrixView x) const;
  // Decoder rows [S, d] as decode() adds them up.
  Matrix directions() const;
  // The k largest pre-activations of each row of x [n, d] = inputs(…). Throws Error{bad_input} for another width.
  SparseCodes encode(ConstMatrixView x) const;
  // x̂ [n, d] of the codes. `directions` is directions(), and every feature of the codes is one of its rows; neither is
  // checked.
  Matrix decode(const SparseCodes& codes, ConstMatrixView directions) const;
  // x̂ of raw rows [n, d], with their norms given back. Throws as inputs() does.
  Matrix reconstruct(ConstMatrixView x) const;
};

// Activations on disk or out of a model, in batches for training: a batch depends on the seed and its number alone, so
// that a run that goes on sees what an uninterrupted one would have seen. Every row comes once an epoch. One thread at
// a time.
class ActivationBatches {
 public:
  virtual ~ActivationBatches() = default;
  virtual size_t rows() const = 0;  // of one epoch
  virtual size_t width() const = 0;
  // What the activations are: a hash of everything that they depend on.
  virtual std::string identity() const = 0;
  // Batch `number` of to.rows shuffled rows. Throws Error{bad_input} for a value that is not finite, Error{cancelled}.
  virtual void read(uint64_t number, MatrixView to, const CancelToken& cancel) = 0;
  // Rows [first, first + to.rows) in the source's own order. There must be such rows, and here and in read() to.cols =
  // width(); not every source checks it. Throws as read() does.
  virtual void read_in_order(size_t first, MatrixView to, const CancelToken& cancel) = 0;

  // What a row belongs to, for people: a token between those around it, or the number of a file's row.
  struct Place {
    std::string before;
    std::string itself;
    std::string after;
  };
  // Of a row in the source's own order, row < rows(), which is not checked.
  virtual Place place(size_t row) const = 0;
};

// Rows of a .npy file [n, d] that stays mapped. Throws Error{not_found, corrupt, unsupported, bad_input} naming it.
std::unique_ptr<ActivationBatches> open_activations(const std::filesystem::path& npy, uint64_t seed);

// Texts cut into windows that a model reads at once: at most `tokens` of them, BOS apart, and no more than its context
// holds. Throws Error{bad_input} for 0 tokens.
std::vector<std::vector<Token>> token_windows(const Model& model, std::span<const std::string> texts, size_t tokens);

// The residual stream after the first `layers` layers, one row a token, computed as batches are asked for: windows are
// shuffled, and rows among some ten thousand. The first position of a window (BOS, where texts start so), a sink of
// attention whose activations are unlike all others, is read but gives no row.
// Throws Error{bad_input} for a layer that the model does not have, no tokens, or a window that exceeds its context.
std::unique_ptr<ActivationBatches> stream_activations(std::shared_ptr<const Model> model, int layers,
                                                      std::vector<std::vector<Token>> windows, uint64_t seed);

// What brings features back that no longer fire.
enum class Revival {
  none,
  ghost,        // ghost gradients: MSE between the error x − x̂, held fixed, and the decoding of all dead features'
                // pre-activations
  auxiliary_k,  // the same for the auxiliary_active largest dead ones, times auxiliary_weight (Gao et al. 2024)
};

struct SaeTraining {
  uint64_t steps = 20000;
  size_t batch = 4096;
  size_t initial_active = 128;       // k falls linearly from here …
  uint64_t annealing_steps = 10000;  // … to config.active over so many steps
  float learning_rate = 1e-3F;       // Adam, betas .9 and .999
  uint64_t warmup_steps = 5000;      // the learning rate rises linearly
  float dropout = 0.5F;              // of pre-activations
  float clip = 1;                    // largest norm of the gradient of all parameters together; 0: none
  Revival revival = Revival::ghost;
  double dead_below = 1e-4;  // a feature is dead if it fired in less than this share of all rows so far
  size_t auxiliary_active = 192;
  float auxiliary_weight = 1.0F / 32;
  uint64_t seed = 0;

  bool operator==(const SaeTraining&) const = default;
};

struct SaeStep {
  uint64_t step = 0;         // steps done, this one included
  double loss = 0;           // mean of (x̂ − x)² over the batch's values, before the step
  double revival_loss = 0;   // ghost or auxiliary loss
  double gradient_norm = 0;  // before clipping
  size_t active = 0;         // k of this step
  size_t dead = 0;           // features that were dead before it
};

// Gradients of all parameters, in the order of Sae's fields.
struct SaeGradients {
  Matrix encoder;                   // [S, d]
  std::vector<float> encoder_bias;  // [S]
  Matrix decoder;                   // [S, d]
  std::vector<float> decoder_bias;  // [d]
};

// Trains one autoencoder. Only the k kept features of a row are decoded and carry gradient; dead features are the only
// others that are touched. Results do not depend on the number of threads. Moves; one thread at a time.
class SaeTrainer {
 public:
  struct Impl;

  // Throws Error{bad_input} naming the option that cannot be, and for parameters of another shape than start.config's.
  SaeTrainer(Sae start, const SaeTraining& training);
  SaeTrainer(SaeTrainer&&) noexcept;
  SaeTrainer& operator=(SaeTrainer&&) noexcept;
  ~SaeTrainer();

  // One step on x [n, d], raw rows, n ≥ 1. Throws Error{bad_input} for no rows or another width, and if x or what comes
  // out is not finite; the parameters are then as before.
  SaeStep step(ConstMatrixView x);
  // The loss of the next step and its gradients, before clipping; takes no step. Throws as step() does; `to` is then as
  // before.
  SaeStep gradients(ConstMatrixView x, SaeGradients& to);
  // Steps until `training.steps` are done, with a checkpoint every `every` steps (0: only at the end and when it is
  // cancelled) if `checkpoint` is not empty. Every step is offered to `seen`. Throws as step(), Error{io, cancelled}.
  void run(ActivationBatches& batches, const std::filesystem::path& checkpoint, uint64_t every,
           const std::function<void(const SaeStep&)>& seen, const Watch& watch);

  // Trains for more steps, or fewer, than the settings said; nothing else changes. Give at least steps_done(), which is
  // not checked: with fewer, run() takes no step.
  void set_steps(uint64_t steps);
  uint64_t steps_done() const;
  const Sae& sae() const;
  const SaeTraining& training() const;
  // Rows in which each feature fired [S], of rows_seen().
  std::span<const uint64_t> firings() const;
  uint64_t rows_seen() const;

  // One file with parameters, moments, counts and settings: a run that is loaded goes on to the same bytes. `source` is
  // the activations' identity. Throws Error{io}, and on loading Error{not_found, corrupt}, and Error{bad_input} if the
  // checkpoint was trained on something else.
  void save(const std::filesystem::path& path, const std::string& source) const;
  static SaeTrainer load(const std::filesystem::path& path, const std::string& source);

 private:
  explicit SaeTrainer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct SaeEvaluation {
  size_t rows = 0;
  double explained_variance = 0;  // 1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², x as the autoencoder sees it
  double loss = 0;                // mean of (x̂ − x)²
  double l0 = 0;                  // features a row keeps
  double dead_share = 0;          // features that fired in no row or in less than dead_below of them
  std::vector<uint64_t> firings;  // [S]
};

// Over rows of `source` in its own order, at most `rows` of them (0: all). Throws Error{bad_input, cancelled}.
SaeEvaluation evaluate(const Sae& sae, ActivationBatches& source, size_t rows, double dead_below, const Watch& watch);

// What a language model loses when the residual stream after some layers is what the autoencoder makes of it.
struct SpliceEvaluation {
  size_t tokens = 0;     // predicted
  double loss = 0;       // of the model itself, nats a token
  double spliced = 0;    // with x̂ in place of x
  double ablated = 0;    // with 0 in place of x
  double recovered = 0;  // (ablated − spliced) / (ablated − loss)
};

// Over windows as above; their first positions keep their own activations in all three, and what they predict does not
// count. Throws Error{bad_input} for a layer that the model does not have, an autoencoder of another width than the
// model's, a window that exceeds its context, and if no window has a token to predict; Error{cancelled}.
SpliceEvaluation evaluate_spliced(const Sae& sae, const Model& model, int layers,
                                  std::span<const std::vector<Token>> windows, const Watch& watch);

struct ReportOptions {
  std::string title;
  size_t features = 100;                             // evenly spaced by how often they fire
  size_t examples = 10;                              // rows with the largest value, a feature
  size_t tokens = 8;                                 // that a feature's decoder row makes more likely, and less
  std::function<std::string(size_t row)> show = {};  // HTML of a row; empty: its place
  const Model* lens =
      nullptr;  // logit lens: decoder rows through the model's output norm and head (nostalgebraist 2020)
};

// A page of features that needs nothing else: how often each fires, its largest examples, its tokens. Throws
// Error{bad_input, cancelled}.
std::string feature_report(const Sae& sae, ActivationBatches& source, const ReportOptions& options, const Watch& watch);
// A <img> of 8-bit grey pixels [height, width], 0 black to 255 white. Throws Error{bad_input} for another size.
std::string image_html(std::span<const float> pixels, size_t width, size_t height);
// A text with &, <, > and quotes as HTML wants them; bytes that are not UTF-8 become U+FFFD.
std::string escape_html(std::string_view text);

}  // namespace hone
