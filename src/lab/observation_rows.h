// Rows and report of sae-observations: how alike the neighbourhoods of a concept space's three views are, and what
// heads and local heads answer in each of them.
#pragma once

#include "hone/neighbours.h"
#include "lab/concept_spaces.h"
#include "lab/experiment.h"

namespace hone::lab {

// Who answers, as columns of rows.csv and as the page says it.
struct Answerer {
  const char* column;
  const char* title;
};
inline constexpr Answerer answerers[] = {
    {"global", "global head, features Ψ"},
    {"global_again", "global head, reconstructions Ψ̂"},
    {"global_concepts", "global head, codes Φ̂"},
    {"ttt", "TTT, Ψ"},
    {"ttt_again", "TTT, Ψ̂"},
    {"ttt_concepts", "TTT, all concepts of the neighbourhood"},
    {"learned", "TTT, learned mask of Φ̂"},
    {"of_query", "TTT, mask of the query's own concepts"},
};

constexpr size_t probabilities_shown = 10;

// A space with the k nearest points of all queries, by cosine, in its three views. Tasks run side by side and an index
// is for one thread.
struct SearchedSpace {
  ConceptSpace space;
  Neighbours features, again, concepts;

  SearchedSpace(ConceptSpace made, size_t k, const Watch& watch);
};

// What a task works on: some queries of one of the config's spaces, which follow each other.
struct ObservedQueries {
  size_t space, first, count;
};
size_t observation_tasks(const Json& config);
ObservedQueries observed_queries(const Json& config, size_t task);

std::vector<std::string> observation_columns();
// Of queries first to first + count. `settings` is the space's entry in config.json: title, protocol of the local heads
// and of the masks.
std::vector<Row> observation_rows(const SearchedSpace& searched, const Json& settings, size_t first, size_t count,
                                  const Watch& watch);
// From all rows; the config is sae-observations'.
Report observation_report(const Json& config, const Table& rows);

}  // namespace hone::lab
