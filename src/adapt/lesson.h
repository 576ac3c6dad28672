// What one text teaches: its neighbours, the directions they and the text itself point to, and the experts these make.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "adapt/panel.h"
#include "hone/adapt.h"

namespace hone {

struct Lesson {
  std::vector<Chunk> neighbours;  // most similar first
  std::vector<double> scores;
  size_t in_context = 0;       // the first so many are read as text
  std::vector<Token> context;  // the tokens of those, nearest last
  std::optional<Adapter> neighbour_direction, prompt_direction;
  size_t gradients_computed = 0;
};

// What a lesson is made with.
struct Teacher {
  const Model& model;
  const Store* store;  // may be nullptr
  const CorpusStatistics& statistics;
  const SessionOptions& options;

  // The `wanted` nearest neighbours of `text` that `admits` accepts (empty: all).
  void find_neighbours(std::string_view text, size_t wanted, const std::function<bool(const Chunk&)>& admits,
                       Lesson& lesson) const;
  void learn_from_neighbours(Lesson& lesson, const Watch& watch) const;
  void learn_from_prompt(std::span<const Token> tokens, Lesson& lesson, const CancelToken& cancel) const;
};

// Contexts of a lesson's experts, as indices into a panel.
constexpr size_t plain_context = 0;
constexpr size_t retrieved_context = 1;

// The experts that a lesson makes, base first, with priors that sum to 1: half of the mass (two fifths if there is a
// context) for the base, then context alone, directions, and directions reading the context, each family sharing
// evenly. The lesson must outlive them.
std::vector<Expert> experts_of(const Lesson& lesson, const SessionOptions& options);

// A panel of these experts, which the base has brought to the end of `before`: the text up to there, after the
// lesson's retrieved context where an expert reads that.
ExpertPanel panel_of(const Model& model, int first_adapted_layer, const Lesson& lesson, std::vector<Expert> experts,
                     std::span<const Token> before, const CancelToken& cancel);

std::vector<double> priors(const std::vector<Expert>& experts);

}  // namespace hone
