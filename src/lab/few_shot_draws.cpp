#include "lab/few_shot_draws.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/random.h"

namespace hone::lab {
namespace {

// `count` of [0, size) in a random order.
std::vector<size_t> some_of(RandomStream& random, size_t size, size_t count, std::string_view what) {
  if (count > size) throw Error(ErrorCode::bad_input, fmt::format("{} of {} {} cannot be drawn", count, size, what));
  return random.draw(size, count);
}

std::map<std::string, std::vector<std::string>> by_intent(const nlohmann::json& file, const std::string& split,
                                                          const std::string& path) {
  const auto fail = [&](std::string_view why) {
    throw Error(ErrorCode::corrupt, fmt::format("'{}', {}: {}", path, split, why));
  };
  if (!file.is_object() || !file.contains(split) || !file[split].is_array()) fail("a list of pairs is needed");
  std::map<std::string, std::vector<std::string>> texts;
  for (const nlohmann::json& pair : file[split]) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string())
      fail(fmt::format("{} is not a pair of a text and its intent", pair.dump()));
    std::string intent = pair[1];
    std::ranges::replace(intent, '_', ' ');
    texts[intent].push_back(pair[0]);
  }
  return texts;
}

}  // namespace

FewShotDraw draw_sst2(const std::vector<LabelledSentence>& sentences, uint64_t seed, size_t number, size_t examples,
                      size_t queries) {
  RandomStream order_of_queries(seed, "few-shot-sst2/queries");
  const std::vector<size_t> order = some_of(order_of_queries, sentences.size(), sentences.size(), "sentences");
  if ((number + 1) * queries > order.size())
    throw Error(ErrorCode::bad_input,
                fmt::format("draw {} of {} queries: there are {} sentences", number, queries, order.size()));
  const auto first = order.begin() + static_cast<ptrdiff_t>(number * queries);
  const auto end = first + static_cast<ptrdiff_t>(queries);
  FewShotDraw draw;
  draw.labels = {"negative", "positive"};
  draw.query_numbers.assign(first, end);
  std::vector<size_t> rest(order.begin(), first);
  rest.insert(rest.end(), end, order.end());
  std::ranges::sort(rest);
  RandomStream random(seed, fmt::format("few-shot-sst2/{}", number));
  for (const size_t i : some_of(random, rest.size(), examples, "sentences")) draw.example_numbers.push_back(rest[i]);
  const auto labelled = [&](size_t i) {
    return LabelledText{sentences[i].text, draw.labels[static_cast<size_t>(sentences[i].label)]};
  };
  for (const size_t i : draw.example_numbers) draw.examples.push_back(labelled(i));
  for (const size_t i : draw.query_numbers) draw.queries.push_back(labelled(i));
  return draw;
}

std::filesystem::path clinc150_file() {
  const char* data = std::getenv("HONE_DATA");
  std::filesystem::path file = std::filesystem::path(data ? data : "") / "clinc150" / "data_full.json";
  if (!data || !is_there(file))
    throw Error(ErrorCode::not_found,
                fmt::format("CLINC150 is needed: {}; set HONE_DATA to a folder that holds clinc150/data_full.json",
                            data ? fmt::format("'{}' does not exist", file.string()) : "HONE_DATA is not set"));
  return file;
}

Clinc150 read_clinc150(const std::filesystem::path& file) {
  const nlohmann::json contents = nlohmann::json::parse(read_file(file), nullptr, false);
  return {by_intent(contents, "train", file.string()), by_intent(contents, "test", file.string())};
}

FewShotDraw draw_clinc150(const Clinc150& data, uint64_t seed, size_t number, size_t intents, size_t examples,
                          size_t queries) {
  RandomStream random(seed, fmt::format("few-shot-clinc150/{}", number));
  std::vector<std::string> names;
  for (const auto& [intent, texts] : data.train)
    if (data.test.contains(intent)) names.push_back(intent);
  FewShotDraw draw;
  for (const size_t i : some_of(random, names.size(), intents, "intents")) draw.labels.push_back(names[i]);
  // Texts are numbered intent by intent, in the order of the intents' names.
  struct Numbered {
    LabelledText text;
    size_t number;
  };
  const auto all_of = [&](const std::map<std::string, std::vector<std::string>>& split, const std::string& label) {
    std::vector<Numbered> found;
    size_t before = 0;
    for (const auto& [intent, texts] : split) {
      for (size_t i = 0; intent == label && i < texts.size(); ++i) found.push_back({{texts[i], label}, before + i});
      before += texts.size();
    }
    return found;
  };
  std::vector<Numbered> drawn, asked;
  for (const std::string& label : draw.labels) {
    const std::vector<Numbered> train = all_of(data.train, label), test = all_of(data.test, label);
    for (const size_t i : some_of(random, train.size(), examples, "texts")) drawn.push_back(train[i]);
    asked.insert(asked.end(), test.begin(), test.end());
  }
  for (const size_t i : some_of(random, drawn.size(), drawn.size(), "texts")) {
    draw.examples.push_back(drawn[i].text);
    draw.example_numbers.push_back(drawn[i].number);
  }
  for (const size_t i : some_of(random, asked.size(), queries, "queries")) {
    draw.queries.push_back(asked[i].text);
    draw.query_numbers.push_back(asked[i].number);
  }
  return draw;
}

}  // namespace hone::lab
