// Runs single operations on demand, so that bench/speed.py and grams.py can interleave them with torch: reads lines
// "OPERATION PRECISION" and answers each with its seconds. Tokens are a fixed text of ids.
#include <fmt/format.h>
#include <sys/resource.h>

#include <chrono>
#include <iostream>
#include <map>

#include "adapt/gradients.h"
#include "base/heap.h"
#include "hone/fewshot.h"
#include "hone/grams.h"

namespace {

using namespace hone;

std::vector<Token> tokens(const Model& model, size_t count) {
  std::vector<Token> result(count);
  for (size_t i = 0; i < count; ++i)
    result[i] = static_cast<Token>((i * 7919 + 13) % static_cast<size_t>(model.config().vocabulary));
  return result;
}

void score(const Model& model, size_t count) {
  const std::vector<Token> text = tokens(model, count);
  const Sequence sequence{text};
  const Matrix hidden = model.forward({&sequence, 1});
  model.losses(hidden.view().row_range(0, count - 1), std::span(text).subspan(1));
}

void lora_step(const Model& model, int first_layer) {
  const std::vector<std::vector<Token>> neighbour = {tokens(model, 256)};
  PublishedOptions options;
  options.first_layer = first_layer;
  published_protocol(model, neighbour, options);
}

// Kernel and query vector of all blocks of all layers, for ten pairs of digits like "3->5" and a query.
void grams(const Model& model) {
  const auto digit = [&](size_t d) { return model.tokenizer().encode(std::to_string(d % 10)); };
  const auto given = [&](size_t x) {
    std::vector<Token> result = digit(x);
    const std::vector<Token> arrow = model.tokenizer().encode("->");
    result.insert(result.end(), arrow.begin(), arrow.end());
    return result;
  };
  std::vector<Example> examples;
  for (size_t x = 0; x < 10; ++x) {
    examples.push_back({given(x), digit(x + 2)});
    for (const Token token : model.tokenizer().encode("\n")) examples.back().label.push_back(token);
  }
  const auto prompts = leave_one_out_prompts({}, examples, given(5));
  std::vector<Sequence> batch;
  for (const auto& prompt : prompts) batch.push_back({.tokens = prompt});
  share_prefixes(batch);
  std::vector<Token> labels;
  std::vector<double> values;
  for (size_t d = 0; d < 10; ++d) {
    labels.push_back(digit(d).back());
    values.push_back(static_cast<double>(d) / 9);
  }
  const Readout readout = Readout::expected_value(labels, values);
  GramSink sink(model, blocks_of(model, 0));
  GradientSink* const sinks[] = {&sink};
  readout_gradients(model, batch, 0, {&readout, 1}, sinks);
}

// As gradient rows are made: in the model's precision on the way back too.
void gradient_step(const Model& model, int first_layer) {
  WeightGradientSink sink;
  GradientSink* const sinks[] = {&sink};
  mean_loss_gradient(model, tokens(model, 256), 1, first_layer, nullptr, {}, sinks, {}, model.precision());
}

}  // namespace

int main(int, char** argv) {
  keep_freed_memory();
  const std::map<std::string, std::shared_ptr<const Model>> models = {
      {"fp32", Model::open(argv[1])}, {"int8", Model::open(argv[1], {.precision = Precision::int8})}};
  std::string operation, precision;
  while (std::cin >> operation >> precision) {
    const Model& model = *models.at(precision);
    const auto start = std::chrono::steady_clock::now();
    if (operation == "score") score(model, 512);
    if (operation == "grams") grams(model);
    if (operation == "lora") lora_step(model, 0);
    if (operation == "lora-top") lora_step(model, default_first_adapted_layer(model));
    if (operation == "gradient-top") gradient_step(model, default_first_adapted_layer(model));
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    fmt::print("{:.6f}\n", passed.count());
    std::fflush(stdout);
  }
}
