// sae-observations: [SaG]'s three observations about why a local head helps. Concepts come from a sparse autoencoder;
// O1: neighbourhoods are alike in features, reconstructions and codes; O2: a neighbourhood needs few concepts; O3: a
// local head on reconstructions finds what one on masked codes finds.
#include "lab/experiments.h"
#include "lab/observation_rows.h"

namespace hone::lab {
namespace {

class SaeObservations final : public Experiment {
 public:
  std::string_view name() const override { return "sae-observations"; }
  std::string_view about() const override {
    return "[SaG]: neighbourhoods in concept space, how few concepts they need, and what TTT finds.";
  }

  Json settings(Size size) const override {
    Json settings = concept_spaces_config(size);
    for (Json& space : settings["spaces"])
      space.update({{"mask_steps", 100}, {"mask_learning_rate", 0.05}, {"sparsity", 0.2}});
    return settings;
  }
  std::vector<std::string> columns() const override { return observation_columns(); }
  size_t tasks(const Json& config) const override { return observation_tasks(config); }

  RunTask start(const Json& config, std::shared_ptr<const Model>, const Watch& at_start) const override {
    auto spaces = std::make_shared<std::vector<SearchedSpace>>();
    for (size_t s = 0; s < config.at("spaces").size(); ++s)
      spaces->emplace_back(make_concept_space(config, s, at_start),
                           config.at("spaces").at(s).at("local").at("neighbours").get<size_t>(), at_start);
    return [config, spaces](size_t task, const Watch& watch) {
      const ObservedQueries queries = observed_queries(config, task);
      return observation_rows(spaces->at(queries.space), config.at("spaces").at(queries.space), queries.first,
                              queries.count, watch);
    };
  }

  Report report(const Json& config, const Table& rows) const override { return observation_report(config, rows); }
};

}  // namespace

std::unique_ptr<const Experiment> make_sae_observations() { return std::make_unique<SaeObservations>(); }

}  // namespace hone::lab
