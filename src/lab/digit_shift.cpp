#include "lab/digit_shift.h"

#include <fmt/format.h>

#include "base/random.h"

namespace hone::lab {
namespace {

Token digit_token(const Model& model, int digit) {
  const std::vector<Token> tokens = model.tokenizer().encode(std::to_string(digit));
  if (tokens.size() != 1)
    throw Error(ErrorCode::unsupported,
                fmt::format("'{}' spells the digit {} with {} tokens; digit-shift needs a model with one token a digit",
                            model.name(), digit, tokens.size()));
  return tokens.front();
}

}  // namespace

std::vector<double> DigitShift::targets() const {
  std::vector<double> y;
  for (const int label : labels) y.push_back(label / 9.0);
  return y;
}

DigitShift digit_shift(uint64_t seed, size_t number, size_t examples) {
  constexpr double replaced = 0.55;
  RandomStream random(seed, fmt::format("digit-shift/{}", number));
  const auto digit = [&] { return static_cast<int>(random.below(10)); };
  DigitShift task;
  task.shift = digit();
  task.noisy = random.below(2) == 1;
  task.sign = random.below(2) == 1 ? "->" : ":";
  task.query = digit();
  for (size_t i = 0; i < examples; ++i) {
    task.x.push_back(digit());
    const bool wrong = random.uniform() < replaced;
    const int other = digit();
    task.labels.push_back(task.noisy && wrong ? other : (task.x.back() + task.shift) % 10);
  }
  return task;
}

LabelledPrompt digit_prompt(const Model& model, const DigitShift& task) {
  const std::vector<Token> end = model.tokenizer().encode("\n");
  const auto input = [&](int x) { return model.tokenizer().encode(fmt::format("{}{}", x, task.sign)); };
  LabelledPrompt prompt{model.encode(""), {}, input(task.query)};
  for (size_t i = 0; i < task.x.size(); ++i) {
    std::vector<Token> label = {digit_token(model, task.labels[i])};
    label.insert(label.end(), end.begin(), end.end());
    prompt.examples.push_back({input(task.x[i]), std::move(label)});
  }
  return prompt;
}

Readout digit_readout(const Model& model) {
  std::vector<Token> labels;
  std::vector<double> values;
  for (int digit = 0; digit < 10; ++digit) {
    labels.push_back(digit_token(model, digit));
    values.push_back(digit / 9.0);
  }
  return Readout::expected_value(std::move(labels), std::move(values));
}

}  // namespace hone::lab
