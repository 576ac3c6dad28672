// Batches out of a language model's residual stream.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/files.h"
#include "interpret/shuffle.h"
#include "interpret/windows.h"

namespace hone {
namespace {

constexpr size_t rows_held = 32768;      // shuffled among each other
constexpr size_t tokens_at_once = 2048;  // that the model reads in one pass
constexpr size_t context_shown = 12;     // tokens before and after

class TokenActivations : public ActivationBatches {
 public:
  TokenActivations(std::shared_ptr<const Model> model, int layers, std::vector<std::vector<Token>> windows,
                   uint64_t seed)
      : model_(std::move(model)),
        layers_(layers),
        windows_(std::move(windows)),
        seed_(seed),
        window_order_((check_layers(*model_, layers), std::max<size_t>(windows_.size(), 1)), seed),
        start_{0} {
    for (const std::vector<Token>& window : windows_) {
      check_window(*model_, window);
      start_.push_back(start_.back() + rows_of(window));
    }
    if (rows() == 0) throw Error(ErrorCode::bad_input, "texts: no window has a second token; give longer texts");
  }

  size_t rows() const override { return start_.back(); }
  size_t width() const override { return static_cast<size_t>(model_->config().width); }
  std::string identity() const override {
    std::string text = fmt::format("{} {}", model_->base_hash(), layers_);
    for (const std::vector<Token>& window : windows_) text += content_hash(std::as_bytes(std::span(window)));
    return content_hash(text);
  }
  Place place(size_t row) const override {
    const auto window = static_cast<size_t>(std::ranges::upper_bound(start_, row) - start_.begin() - 1);
    const std::vector<Token> all = with_start(*model_, windows_[window]);
    const std::span<const Token> tokens = all;
    const size_t at = row - start_[window] + 1, from = at - std::min(at, context_shown);
    const Tokenizer& tokenizer = model_->tokenizer();
    return {tokenizer.decode(tokens.subspan(from, at - from)), tokenizer.piece(tokens[at]),
            tokenizer.decode(tokens.subspan(at + 1, std::min(context_shown, tokens.size() - at - 1)))};
  }

  void read(uint64_t number, MatrixView to, const CancelToken& cancel) override {
    for (size_t i = 0; i < to.rows; ++i) {
      const uint64_t position = number * to.rows + i;
      const uint64_t epoch = position / rows(), part = position % rows() / rows_held;
      hold(epoch, part, cancel);
      std::ranges::copy(held_.row(held_order_[position % rows() % rows_held]), to.row(i).begin());
    }
  }
  void read_in_order(size_t first, MatrixView to, const CancelToken& cancel) override {
    std::vector<size_t> order(windows_.size());
    std::iota(order.begin(), order.end(), 0);
    compute(order, start_, first, to, cancel);
  }

 private:
  size_t rows_of(const std::vector<Token>& window) const {
    return std::max<size_t>(with_start(*model_, window).size(), 1) - 1;
  }

  // Rows [first, first + to.rows) of windows that stand in `order` and start at `starts`.
  void compute(std::span<const size_t> order, std::span<const size_t> starts, size_t first, MatrixView to,
               const CancelToken& cancel) const {
    const size_t end = first + to.rows;
    auto next = static_cast<size_t>(std::ranges::upper_bound(starts, first) - starts.begin() - 1);
    while (next < order.size() && starts[next] < end) {
      std::vector<std::span<const Token>> some;
      const size_t begin = next;
      for (size_t tokens = 0; next < order.size() && starts[next] < end && (some.empty() || tokens < tokens_at_once);
           ++next) {
        some.emplace_back(windows_[order[next]]);
        tokens += some.back().size() + 1;
      }
      const WindowStates states(*model_, layers_, some, cancel);
      for (size_t w = 0; w < some.size(); ++w)
        for (size_t p = 1; p < states.tokens(w).size(); ++p) {
          const size_t row = starts[begin + w] + p - 1;
          if (row >= first && row < end)
            std::ranges::copy(states.states().row(states.position(w, p)), to.row(row - first).begin());
        }
    }
  }

  // Part `part` of an epoch: consecutive rows of the shuffled windows, in an order of their own.
  void hold(uint64_t epoch, uint64_t part, const CancelToken& cancel) {
    if (epoch == held_epoch_ && part == held_part_) return;
    const size_t first = part * rows_held, count = std::min(rows_held, rows() - first);
    const bool whole = count == rows();  // all there is: computed once
    if (!whole || held_.empty()) {
      std::vector<size_t> order(windows_.size()), starts{0};
      for (size_t w = 0; w < order.size(); ++w) {
        order[w] = window_order_.at((whole ? 0 : epoch) * order.size() + w);
        starts.push_back(starts.back() + rows_of(windows_[order[w]]));
      }
      held_ = Matrix::uninitialized(count, width());
      held_part_ = UINT64_MAX;  // until it is filled
      compute(order, starts, first, held_, cancel);
    }
    held_order_.resize(count);
    std::iota(held_order_.begin(), held_order_.end(), 0);
    shuffle(held_order_, seed_, fmt::format("epoch {} part {}", epoch, part));
    held_epoch_ = epoch;
    held_part_ = part;
  }

  std::shared_ptr<const Model> model_;
  int layers_;
  std::vector<std::vector<Token>> windows_;
  uint64_t seed_;
  ShuffledOrder window_order_;
  std::vector<size_t> start_;  // [windows + 1] first row of each window
  Matrix held_;
  std::vector<uint32_t> held_order_;
  uint64_t held_epoch_ = UINT64_MAX, held_part_ = UINT64_MAX;
};

}  // namespace

std::unique_ptr<ActivationBatches> stream_activations(std::shared_ptr<const Model> model, int layers,
                                                      std::vector<std::vector<Token>> windows, uint64_t seed) {
  return std::make_unique<TokenActivations>(std::move(model), layers, std::move(windows), seed);
}

}  // namespace hone
