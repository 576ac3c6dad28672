#include "adapt/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "model/elementwise.h"

namespace hone {

void normalize_logits(std::span<float> logits) {
  const float normalizer = log_sum_exp(logits);
  for (float& value : logits) value -= normalizer;
}

Sampler::Sampler(const SamplingOptions& options)
    : temperature_(options.temperature),
      top_k_(options.top_k),
      top_p_(options.top_p),
      random_(options.seed, "sampling") {
  if (!(temperature_ >= 0) || !std::isfinite(temperature_))
    throw Error(ErrorCode::bad_input, fmt::format("temperature is {}; it must be 0 (greedy) or more", temperature_));
  if (!(top_p_ > 0 && top_p_ <= 1))
    throw Error(ErrorCode::bad_input, fmt::format("top-p is {}; it must be above 0 and at most 1", top_p_));
}

Token Sampler::next(std::span<const float> log_probs) {
  if (temperature_ == 0) return static_cast<Token>(std::ranges::max_element(log_probs) - log_probs.begin());
  std::vector<Token> order(log_probs.size());
  std::iota(order.begin(), order.end(), 0);
  const auto more_likely = [&](Token a, Token b) {
    const float pa = log_probs[static_cast<size_t>(a)], pb = log_probs[static_cast<size_t>(b)];
    return pa != pb ? pa > pb : a < b;
  };
  const size_t kept = top_k_ > 0 ? std::min(top_k_, order.size()) : order.size();
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(kept), order.end(), more_likely);
  order.resize(kept);

  std::vector<double> weights;
  const double top = log_probs[static_cast<size_t>(order.front())];
  double total = 0;
  for (const Token token : order) {
    weights.push_back(std::exp((log_probs[static_cast<size_t>(token)] - top) / temperature_));
    total += weights.back();
  }
  double reached = 0;
  size_t nucleus = 0;
  while (nucleus < weights.size() && reached < top_p_ * total) reached += weights[nucleus++];

  double left = random_.uniform() * reached;
  for (size_t i = 0; i < nucleus; ++i) {
    left -= weights[i];
    if (left < 0) return order[i];
  }
  return order[std::max<size_t>(nucleus, 1) - 1];
}

namespace {

// Bytes at the end of `text` that begin a UTF-8 character without completing it.
size_t incomplete_tail(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;
    const size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

}  // namespace

AnswerText::AnswerText(std::vector<std::string> stops, const std::function<void(std::string_view)>& stream)
    : stops_(std::move(stops)), stream_(stream) {
  std::erase(stops_, "");
}

void AnswerText::release(size_t length) {
  if (length <= streamed_) return;
  if (stream_) stream_(std::string_view(text_).substr(streamed_, length - streamed_));
  streamed_ = length;
}

bool AnswerText::add(std::string_view piece) {
  text_ += piece;
  size_t stop_at = std::string::npos;
  for (const std::string& stop : stops_) stop_at = std::min(stop_at, text_.find(stop, streamed_));
  if (stop_at != std::string::npos) {
    text_.resize(stop_at);
    release(text_.size());
    return true;
  }
  size_t held = incomplete_tail(text_);
  for (const std::string& stop : stops_)
    for (size_t length = std::min(stop.size() - 1, text_.size() - streamed_); length > held; --length)
      if (std::string_view(text_).ends_with(std::string_view(stop).substr(0, length))) {
        held = length;
        break;
      }
  if (text_.size() - held > streamed_) {
    const size_t cut = incomplete_tail(std::string_view(text_).substr(0, text_.size() - held));
    release(text_.size() - held - cut);
  }
  return false;
}

void AnswerText::finish() { release(text_.size()); }

}  // namespace hone
