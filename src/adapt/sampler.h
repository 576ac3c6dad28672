// Choosing the next token from a distribution.
#pragma once

#include <span>

#include "base/random.h"
#include "hone/adapt.h"

namespace hone {

// log softmax in place.
void normalize_logits(std::span<float> logits);

class Sampler {
 public:
  // Throws Error{bad_input} naming the option that is out of range.
  explicit Sampler(const SamplingOptions& options);
  // `log_probs` [V] of the next token. Greedy at temperature 0, ties to the smallest id; else temperature, then the
  // top_k most likely, then the fewest whose probabilities reach top_p.
  Token next(std::span<const float> log_probs);

 private:
  float temperature_;
  size_t top_k_;
  float top_p_;
  RandomStream random_;
};

// Assembles the answer's text: holds back what could still become a stop string or is half of a UTF-8 character.
class AnswerText {
 public:
  AnswerText(std::vector<std::string> stops, const std::function<void(std::string_view)>& stream);
  // Adds a token's bytes. True if a stop string is complete: the answer ends before it.
  bool add(std::string_view piece);
  // No more tokens come: what was held back is text after all.
  void finish();
  const std::string& text() const { return text_; }

 private:
  void release(size_t length);

  std::vector<std::string> stops_;
  const std::function<void(std::string_view)>& stream_;
  std::string text_;
  size_t streamed_ = 0;
};

}  // namespace hone
