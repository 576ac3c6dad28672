// [SaG] on language: bits per byte of held-out text against the neighbours that the model was tuned on.
#include <fmt/format.h>

#include "lab/experiments.h"
#include "lab/lab_cache.h"
#include "lab/language_rows.h"

namespace hone::lab {
namespace {

std::vector<Corpus> read_corpora() {
  std::vector<Corpus> corpora;
  corpora.push_back(python_library());
  corpora.push_back(linux_documentation());
  return corpora;
}

// A corpus' windows and what they learn from.
struct IndexedCorpus {
  std::string name;
  std::vector<TextWindow> windows;
  Store store;
};

class LanguageScaling : public Experiment {
 public:
  std::string_view name() const override { return "language-scaling"; }
  std::string_view about() const override {
    return "[SaG] on language: bits per byte after 0 to 50 neighbours, Python's library and Linux's documentation.";
  }
  bool needs_model() const override { return true; }
  std::vector<std::string> columns() const override { return language_columns(); }

  Json settings(Size size) const override {
    const LanguageOptions defaults;
    const size_t windows = size == Size::quick ? 2 : size == Size::standard ? 12 : 60;
    std::vector<size_t> neighbours = defaults.neighbours;
    if (size == Size::quick) neighbours = {0, 1, 2, 5, 10};
    Json corpora = Json::array();
    for (const Corpus& corpus : read_corpora()) corpora.push_back({{"corpus", corpus.name}, {"hash", corpus.hash}});
    return {{"corpora", corpora},
            {"windows", windows},
            {"offset_bytes", 2048},
            {"window_bytes", 1536},
            {"chunk_tokens", IndexOptions{}.chunk_tokens},
            {"neighbours", neighbours},
            {"rank", defaults.published.rank},
            {"first_layer", defaults.published.first_layer},
            {"learning_rate", 1e-3},
            {"duplicate_share", defaults.duplicate_share},
            {"floor", defaults.floor}};
  }
  std::vector<Adjustable> adjustable() const override { return {{"windows"}}; }
  size_t tasks(const Json& config) const override {
    return config.at("corpora").size() * config.at("windows").get<size_t>();
  }

  RunTask start(const Json& config, std::shared_ptr<const Model> model, const Watch& watch) const override {
    const std::vector<Corpus> corpora = read_corpora();
    auto indexed = std::make_shared<std::vector<IndexedCorpus>>();
    for (size_t c = 0; c < corpora.size(); ++c) {
      if (corpora[c].hash != config.at("corpora").at(c).at("hash"))
        throw Error(ErrorCode::bad_input,
                    fmt::format("{} is not what it was when this run began; give another folder", corpora[c].name));
      Split parts = split(corpora[c], config.at("windows"), config.at("offset_bytes"), config.at("window_bytes"),
                          config.at("seed"));
      indexed->push_back({corpora[c].name, std::move(parts.windows),
                          corpus_store(*model, parts.learned, config.at("chunk_tokens"), lab_cache({}), watch)});
    }
    LanguageOptions options;
    options.neighbours = config.at("neighbours").get<std::vector<size_t>>();
    options.published = {.first_layer = config.at("first_layer"),
                         .rank = config.at("rank"),
                         .learning_rate = config.at("learning_rate"),
                         .seed = config.at("seed")};
    options.duplicate_share = config.at("duplicate_share");
    options.floor = config.at("floor");
    return [model, indexed, options, windows = config.at("windows").get<size_t>()](size_t number,
                                                                                   const Watch& task_watch) {
      const IndexedCorpus& corpus = indexed->at(number / windows);
      return language_rows(*model, corpus.store, corpus.name, corpus.windows[number % windows], options, task_watch);
    };
  }

  Report report(const Json& config, const Table& rows) const override { return language_report(config, rows); }
};

}  // namespace

std::unique_ptr<const Experiment> make_language_scaling() { return std::make_unique<LanguageScaling>(); }

}  // namespace hone::lab
