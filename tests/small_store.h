// A store of a few short texts for one model, with everything learned that a session needs.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "hone/adapt.h"
#include "tests/golden.h"
#include "tests/temporary_folder.h"

namespace hone::test {

// Sentences about one of three subjects: 0 harbours, 1 orchards, 2 clocks. Equal seeds give equal text.
inline std::string prose(size_t subject, int sentences, uint64_t seed) {
  static const std::vector<std::vector<std::string>> nouns = {
      {"harbour", "anchor", "ferry", "tide", "lighthouse", "net"},
      {"orchard", "pear", "blossom", "ladder", "cider", "wasp"},
      {"clock", "pendulum", "spring", "escapement", "minute", "watchmaker"}};
  static const std::vector<std::string> verbs = {"meets", "follows", "outlives", "hides", "measures", "carries"};
  static const std::vector<std::string> manners = {"slowly", "in the rain", "before noon", "without a word", "again"};
  RandomStream random(seed, "prose");
  const auto one_of = [&](const std::vector<std::string>& words) { return words[random.below(words.size())]; };
  std::string text;
  for (int s = 0; s < sentences; ++s)
    text += "The " + one_of(nouns[subject]) + " " + one_of(verbs) + " the " + one_of(nouns[subject]) + " " +
            one_of(manners) + ". ";
  return text;
}

// The first tokens of a text about harbours that no store holds.
inline std::vector<Token> prose_tokens(const Model& model, size_t tokens) {
  std::vector<Token> all = model.tokenizer().encode(prose(0, 20, 99));
  all.resize(tokens);
  return all;
}

inline StoreIdentity identity_of(const Model& model) { return {model.name(), model.base_hash()}; }

struct SmallStore {
  // `more`: names and contents of further files.
  explicit SmallStore(std::shared_ptr<const Model> of, size_t chunk_tokens = 40, const LearnOptions& learn = {},
                      const std::map<std::string, std::string>& more = {})
      : model(std::move(of)) {
    for (const auto& [name, contents] : more) folder.write("texts/" + name, contents);
    for (size_t subject = 0; subject < 3; ++subject)
      for (uint64_t file = 0; file < 2; ++file)
        folder.write("texts/" + std::to_string(subject) + "-" + std::to_string(file) + ".txt",
                     prose(subject, 8, 10 * subject + file));
    store = std::make_unique<Store>(Store::create(folder.path() / "store", identity_of(*model)));
    store->index({folder.path() / "texts"}, model->tokenizer(), {.chunk_tokens = chunk_tokens});
    statistics = learn_statistics(*model, *store, learn);
  }

  TemporaryFolder folder;
  std::shared_ptr<const Model> model;
  std::unique_ptr<Store> store;
  CorpusStatistics statistics;
};

}  // namespace hone::test
