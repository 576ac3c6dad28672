// What one text teaches: its neighbours, the directions they and the text itself point to, and the experts these make.
#pragma once

#include <functional>
#include <string>

#include "adapt/panel.h"
#include "hone/adapt.h"

namespace hone {

struct Lesson {
  std::vector<Chunk> neighbours;  // most similar first
  std::vector<double> scores;
  std::vector<size_t> in_context;  // the neighbours that are read as text, in the order in which they are read
  std::vector<Token> context;      // their tokens
  bool neighbours_teach = false, prompt_teaches = false;
  Adapter neighbour_direction, prompt_direction;  // empty until learned
  size_t gradients_computed = 0;
};

// What a lesson is made with.
struct Teacher {
  const Model& model;
  const Store* store;  // may be nullptr
  const CorpusStatistics& statistics;
  const SessionOptions& options;

  // The `wanted` nearest neighbours of `text`, found as options.retrieval says, that `admits` accepts (empty: all). The
  // nearest are read as text, nearest last; but where the nearest of all is one of the chunks `read_before`, given in
  // the order in which they were read, these keep their place while they are among the neighbours, so that what was
  // read of them holds.
  void find_neighbours(std::span<const Token> text, size_t wanted, const std::function<bool(const Chunk&)>& admits,
                       std::span<const int64_t> read_before, Lesson& lesson, const CancelToken& cancel) const;
  // Leaves out neighbours that would be read, the farthest first, while they, BOS and a text of `tokens` are too long
  // for the model; false if any is.
  bool fit_context(size_t tokens, Lesson& lesson) const;
  // What there is to learn from: neighbours that were found, and a text of `prompt_tokens`.
  void plan(size_t prompt_tokens, Lesson& lesson) const;
  void learn_from_neighbours(Lesson& lesson, const Watch& watch) const;
  // `base` has read the tokens, or has not read anything.
  void learn_from_prompt(std::span<const Token> tokens, const Reading& base, Lesson& lesson,
                         const CancelToken& cancel) const;
};

// Contexts of a lesson's experts, as indices into a panel.
constexpr size_t plain_context = 0;
constexpr size_t retrieved_context = 1;

// The experts that a lesson makes, base first, with priors that sum to 1: half of the mass (two fifths if there is a
// context) for the base, then context alone, directions, and directions reading the context, each family sharing
// evenly. A direction may be learned later. The lesson must outlive them.
std::vector<Expert> experts_of(const Lesson& lesson, const SessionOptions& options);

// A panel of these experts, which the base has brought to the end of `before`: the text up to there, after the
// lesson's retrieved context where an expert reads that. `readings` are an earlier panel's, or empty.
ExpertPanel panel_of(const Model& model, int first_adapted_layer, const Lesson& lesson, std::vector<Expert> experts,
                     std::span<const Token> before, std::vector<Reading> readings, const CancelToken& cancel);

std::vector<double> priors(const std::vector<Expert>& experts);

}  // namespace hone
