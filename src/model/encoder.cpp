// What every TextEncoder does: batches, pooling, length 1; and which kind a path holds.
#include "hone/encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/parallel.h"
#include "model/bert.h"
#include "model/gguf.h"
#include "model/pooling.h"

namespace hone {
namespace {

namespace fs = std::filesystem;

// The most tokens that are computed together, so that a batch of long texts needs no large buffers.
constexpr size_t batch_tokens = 4096;

int checked_layer(std::optional<int> wanted, int fallback, int layers, const std::string& model) {
  const int layer = wanted.value_or(fallback);
  if (layer < 0 || layer > layers)
    throw Error(ErrorCode::bad_input,
                fmt::format("layer {} does not exist; '{}' has layers 0 (the embeddings) to {}", layer, model, layers));
  return layer;
}

size_t checked_tokens(size_t wanted, size_t least, size_t most, const std::string& model) {
  if (wanted == 0) return most;
  if (wanted < least || wanted > most)
    throw Error(ErrorCode::bad_input,
                fmt::format("texts of at most {} tokens; '{}' reads {} to {}", wanted, model, least, most));
  return wanted;
}

std::string title(const std::string& model, const EncoderOptions& options) {
  return fmt::format("{} L{} {}{}", model, *options.layer, name(*options.pooling), *options.normalize ? " unit" : "");
}

// What was left out, as the model's files say.
EncoderOptions complete(const BertConfig& config, EncoderOptions options) {
  options.layer = checked_layer(options.layer, config.layers, config.layers, config.name);
  options.pooling = options.pooling.value_or(config.pooling);
  options.normalize = options.normalize.value_or(config.normalize);
  options.max_tokens = checked_tokens(options.max_tokens, 2, static_cast<size_t>(config.positions), config.name);
  return options;
}

EncoderOptions complete(const Model& model, EncoderOptions options) {
  const ModelConfig& config = model.config();
  const size_t bos = model.encode("").size();
  options.precision = model.precision();
  options.layer = checked_layer(options.layer, std::max(1, config.layers * 4 / 5), config.layers, config.name);
  options.pooling = options.pooling.value_or(Pooling::directions);
  options.normalize = options.normalize.value_or(false);
  options.max_tokens = checked_tokens(options.max_tokens, bos + 1, static_cast<size_t>(config.context), config.name);
  return options;
}

class BertEncoder final : public TextEncoder {
 public:
  BertEncoder(Bert bert, const EncoderOptions& options)
      : TextEncoder(title(bert.config.name, options), bert.hash, options, static_cast<size_t>(bert.config.width)),
        bert_(std::move(bert)) {}

  std::vector<Token> encode(std::string_view text) const override { return frame(bert_.tokenizer->encode(text)); }

  std::vector<Token> frame(std::span<const Token> tokens) const override {
    const auto some = tokens.first(std::min(tokens.size(), options().max_tokens - 2));
    std::vector<Token> framed = {bert_.tokenizer->cls()};
    framed.insert(framed.end(), some.begin(), some.end());
    framed.push_back(bert_.tokenizer->sep());
    return framed;
  }

  Matrix hidden_states(std::span<const std::vector<Token>> texts, const CancelToken& cancel) const override {
    return bert_.forward(texts, *options().layer, cancel);
  }

 private:
  Bert bert_;
};

class HiddenStateEncoder final : public TextEncoder {
 public:
  HiddenStateEncoder(std::shared_ptr<const Model> model, const EncoderOptions& options)
      : TextEncoder(title(model->name(), options), model->base_hash(), options,
                    static_cast<size_t>(model->config().width)),
        model_(std::move(model)) {}

  std::vector<Token> encode(std::string_view text) const override { return frame(model_->tokenizer().encode(text)); }

  std::vector<Token> frame(std::span<const Token> tokens) const override {
    std::vector<Token> framed = model_->encode("");
    const size_t room = options().max_tokens - framed.size();
    const auto some = tokens.last(std::min(tokens.size(), room));
    framed.insert(framed.end(), some.begin(), some.end());
    return framed;
  }

  Matrix hidden_states(std::span<const std::vector<Token>> texts, const CancelToken& cancel) const override {
    std::vector<Sequence> batch;
    for (const std::vector<Token>& text : texts) batch.push_back({.tokens = text});
    return model_->forward(batch, 0, *options().layer, model_->embed(batch), nullptr, cancel);
  }

 private:
  std::shared_ptr<const Model> model_;
};

}  // namespace

std::shared_ptr<const TextEncoder> TextEncoder::open(const fs::path& path, const EncoderOptions& options) {
  const auto encoder = [&](Bert bert) {
    const EncoderOptions chosen = complete(bert.config, options);
    return std::make_shared<const BertEncoder>(std::move(bert), chosen);
  };
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return encoder(Bert::open_folder(path, options.precision));
  const Gguf file = Gguf::open(path);
  if (file.string_or("general.architecture", "") == "bert") return encoder(Bert::open_gguf(file, options.precision));
  return of(Model::open(path, {.precision = options.precision}), options);
}

std::shared_ptr<const TextEncoder> TextEncoder::of(std::shared_ptr<const Model> model, const EncoderOptions& options) {
  const EncoderOptions chosen = complete(*model, options);
  return std::make_shared<const HiddenStateEncoder>(std::move(model), chosen);
}

std::string TextEncoder::identity() const {
  return fmt::format("{}, {} tokens", title(hash_, options_), options_.max_tokens);
}

Matrix TextEncoder::embed(std::span<const std::string> texts, const EmbedOptions& options, const Watch& watch) const {
  std::vector<std::vector<Token>> tokens(texts.size());
  parallel_for(texts.size(), [&](size_t i) {
    watch.cancel.check();
    tokens[i] = encode(texts[i]);
  });
  return embed(tokens, options, watch);
}

Matrix TextEncoder::embed(std::span<const std::vector<Token>> texts, const EmbedOptions& options,
                          const Watch& watch) const {
  if (options.batch == 0) throw Error(ErrorCode::bad_input, "a batch of 0 texts; give at least 1");
  for (const std::vector<Token>& text : texts)
    if (text.size() > options_.max_tokens)
      throw Error(ErrorCode::bad_input,
                  fmt::format("a text of {} tokens; {} reads at most {}", text.size(), name_, options_.max_tokens));
  Matrix vectors = Matrix::uninitialized(texts.size(), dimension_);
  for (size_t begin = 0, end = 0; begin < texts.size(); begin = end) {
    watch.report("embed", begin, texts.size());
    for (size_t tokens = 0; end < texts.size() && end - begin < options.batch; ++end) {
      tokens += texts[end].size();
      if (end > begin && tokens > batch_tokens) break;
    }
    const auto batch = texts.subspan(begin, end - begin);
    const Matrix states = hidden_states(batch, watch.cancel);
    std::vector<size_t> start = {0};
    for (const std::vector<Token>& text : batch) start.push_back(start.back() + text.size());
    parallel_ranges(batch.size(), 1, [&](size_t first, size_t last) {
      for (size_t b = first; b < last; ++b) {
        const auto vector = vectors.row(begin + b);
        pool(*options_.pooling, states.view().row_range(start[b], start[b + 1] - start[b]), vector);
        if (*options_.normalize) normalize(vector);
        if (!std::ranges::all_of(vector, [](float value) { return std::isfinite(value); }))
          throw Error(
              ErrorCode::bad_input,
              fmt::format("the vector of text {} by {} is not finite; is the model damaged?", begin + b, name_));
      }
    });
  }
  watch.report("embed", texts.size(), texts.size());
  return vectors;
}

}  // namespace hone
