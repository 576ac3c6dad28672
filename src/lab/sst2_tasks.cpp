#include "lab/sst2_tasks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <sstream>

#include "base/files.h"
#include "base/random.h"

namespace hone::lab {

std::filesystem::path sst2_file() {
  const char* data = std::getenv("HONE_DATA");
  const std::filesystem::path file = std::filesystem::path(data ? data : "") / "sst2" / "dev.tsv";
  if (!data || !is_there(file))
    throw Error(ErrorCode::not_found,
                fmt::format("SST-2's validation set is needed: {}; set HONE_DATA to a folder that holds sst2/dev.tsv "
                            "(GLUE, sst2, a tab between label and sentence)",
                            data ? fmt::format("'{}' does not exist", file.string()) : "HONE_DATA is not set"));
  return file;
}

std::vector<LabelledSentence> read_sst2(const std::filesystem::path& file) {
  std::istringstream lines(read_file(file));
  std::vector<LabelledSentence> sentences;
  std::string line;
  for (size_t number = 1; std::getline(lines, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (number == 1 || line.empty()) continue;
    const size_t tab = line.find('\t');
    const std::string before = line.substr(0, tab), after = tab == std::string::npos ? "" : line.substr(tab + 1);
    const bool label_first = before == "0" || before == "1";
    std::string text = label_first ? after : before;
    const std::string& label = label_first ? before : after;
    text.erase(text.find_last_not_of(' ') + 1);
    if (text.empty() || (label != "0" && label != "1"))
      throw Error(ErrorCode::corrupt, fmt::format("'{}', line {}: a sentence and its label, 0 or 1, with a tab between "
                                                  "them are needed",
                                                  file.string(), number));
    sentences.push_back({std::move(text), label == "1"});
  }
  if (sentences.empty())
    throw Error(ErrorCode::corrupt, fmt::format("'{}' has no sentence below its header", file.string()));
  return sentences;
}

std::vector<size_t> sst2_task(uint64_t seed, size_t number, size_t sentences, size_t examples) {
  if (number >= sentences || examples >= sentences)
    throw Error(ErrorCode::bad_input,
                fmt::format("task {} with {} examples: there are {} sentences", number, examples, sentences));
  std::vector<size_t> order(sentences);
  std::iota(order.begin(), order.end(), size_t{0});
  RandomStream(seed, "sst2/queries").draw(std::span(order), sentences);
  const size_t query = order[number];
  order.erase(order.begin() + static_cast<ptrdiff_t>(number));
  RandomStream(seed, fmt::format("sst2/{}", number)).draw(std::span(order), examples);
  order.resize(examples);
  order.push_back(query);
  return order;
}

Sst2Format::Sst2Format(const Model& model) : model_(model) {
  const Tokenizer& tokenizer = model.tokenizer();
  std::vector<Token> zero = tokenizer.encode(" 0"), one = tokenizer.encode(" 1");
  const auto [differs, other] = std::ranges::mismatch(zero, one);
  if (differs == zero.end() || other == one.end())
    throw Error(ErrorCode::unsupported, fmt::format("'{}' does not tell the labels 0 and 1 apart", model.name()));
  common_.assign(zero.begin(), differs);
  labels_[0].assign(differs, zero.end());
  labels_[1].assign(other, one.end());
  const std::vector<Token> end = tokenizer.encode("\n");
  for (std::vector<Token>& label : labels_) label.insert(label.end(), end.begin(), end.end());
}

std::vector<Token> Sst2Format::input(const std::string& text) const {
  std::vector<Token> tokens = model_.tokenizer().encode(fmt::format("Text: {} Label:", text));
  tokens.insert(tokens.end(), common_.begin(), common_.end());
  return tokens;
}

LabelledPrompt Sst2Format::prompt(const std::vector<LabelledSentence>& sentences, std::span<const size_t> task) const {
  LabelledPrompt prompt{model_.encode(""), {}, input(sentences.at(task.back()).text)};
  for (const size_t i : task.first(task.size() - 1))
    prompt.examples.push_back({input(sentences.at(i).text), labels_[sentences.at(i).label]});
  return prompt;
}

PromptKernels probability_kernels(const PromptKernels& margin) {
  const auto logistic = [](double m) { return 1 / (1 + std::exp(-m)); };
  const auto slope = [&](double m) { return logistic(m) * logistic(-m); };
  const size_t n = margin.left_out.size();
  PromptKernels result{logistic(margin.answer),
                       {},
                       margin.kernels.copy(),
                       margin.queries.copy(),
                       margin.query_norm * std::pow(slope(margin.answer), 2)};
  std::vector<double> slopes;
  for (const double m : margin.left_out) {
    result.left_out.push_back(logistic(m));
    slopes.push_back(slope(m));
  }
  for (size_t b = 0; b < result.kernels.rows(); ++b)
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) result.kernels.row(b)[i * n + j] *= static_cast<float>(slopes[i] * slopes[j]);
      result.queries.row(b)[i] *= static_cast<float>(slopes[i] * slope(margin.answer));
    }
  return result;
}

}  // namespace hone::lab
