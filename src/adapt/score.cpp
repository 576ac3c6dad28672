#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "hone/adapt.h"

namespace hone {

double TextScore::perplexity() const { return std::exp2(bits / static_cast<double>(tokens)); }

TextScore score(const Model& model, std::string_view text, const ScoreOptions& options, const Watch& watch) {
  const Tokenizer& tokenizer = model.tokenizer();
  const std::vector<Token> tokens = tokenizer.encode(text);
  const bool bos = !model.encode("").empty();
  // Without halves BOS comes before the window, and with them (as llama.cpp has it) instead of its first token.
  const size_t shift = bos && !options.second_halves ? 1 : 0;
  const auto context = static_cast<size_t>(model.config().context);
  const size_t window = std::min(options.window, context - shift);
  const size_t stride = options.second_halves ? window : options.stride;
  // Without BOS nothing predicts a window's first token, so that the window before it must score it.
  const size_t smallest_window = options.second_halves ? 3 : 2;
  const size_t largest_stride = bos || options.second_halves ? window : window - 1;
  if (options.window < smallest_window || options.window > context || stride < 1 || stride > largest_stride)
    throw Error(ErrorCode::bad_input,
                fmt::format("window {} and stride {} do not fit: the window is {} to {} tokens, the stride 1 to {}",
                            options.window, stride, smallest_window, context, largest_stride));
  const size_t shortest = options.second_halves ? window : (bos ? 1 : 2);
  if (tokens.size() < shortest)
    throw Error(ErrorCode::bad_input,
                fmt::format("the text has {} tokens; scoring it needs at least {}", tokens.size(), shortest));

  TextScore total;
  size_t scored = options.second_halves || bos ? 0 : 1;  // tokens[0, scored) are done, or cannot be predicted
  size_t windows = 0;
  for (size_t begin = 0; scored < tokens.size(); begin += stride, ++windows) {
    if (options.max_windows > 0 && windows == options.max_windows) break;
    if (options.second_halves && begin + window > tokens.size()) break;
    watch.report("score", begin, tokens.size());
    const size_t end = std::min(begin + window, tokens.size());
    std::vector<Token> input(tokens.begin() + static_cast<ptrdiff_t>(begin),
                             tokens.begin() + static_cast<ptrdiff_t>(end));
    if (shift) input.insert(input.begin(), tokenizer.bos());
    if (bos && options.second_halves) input[0] = tokenizer.bos();
    if (options.second_halves) scored = begin + window / 2 + 1;

    const Sequence sequence{input};
    const std::span<const Sequence> batch(&sequence, 1);
    const Matrix hidden = model.forward(batch, 0, model.config().layers, model.embed(batch), nullptr, watch.cancel);
    const size_t first = scored - begin + shift - 1;  // the row that predicts token `scored`
    const std::span<const Token> targets(tokens.data() + scored, end - scored);
    const std::vector<float> losses = model.losses(hidden.view().row_range(first, targets.size()), targets);
    for (const float loss : losses) total.bits += loss / std::numbers::ln2;
    if (!std::isfinite(total.bits))
      throw Error(ErrorCode::corrupt,
                  fmt::format("{} gives a token between {} and {} a loss that is not finite; is the "
                              "file damaged?",
                              model.name(), scored, end));
    for (const Token token : targets) total.bytes += tokenizer.piece(token).size();
    total.tokens += targets.size();
    scored = end;
  }
  watch.report("score", tokens.size(), tokens.size());
  return total;
}

}  // namespace hone
