// masks: how few concepts of an autoencoder's code a neighbourhood needs ([SaG] §4, observations 2 and 3).
// Functions use the one thread pool: one thread calls them at a time.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "hone/heads.h"
#include "hone/sae.h"

namespace hone {

enum class Mask {
  learned,   // of the concepts that the neighbourhood has, those that a learned mask keeps
  of_query,  // not adaptive: the concepts that the query itself has
  none,      // all concepts that the neighbourhood has
};
std::string_view name(Mask mask);  // "learned", "of_query", "none"

// A local head on masked codes minimises, over the query's k neighbours and from the start (W_0, b_0),
//   (1/k) Σ_i −log softmax(W (m ∘ φ_i) + b)[y_i] + sparsity · (1/a) Σ_j m_j,
// a concepts being active in at least one neighbour, by full-batch Adam. m_j = 1[s_j > 0]; backward, m_j counts as the
// sigmoid of s_j (straight-through estimator). Scores s start at 1, so that everything is kept at first.
struct MaskTraining {
  Mask mask = Mask::learned;
  int steps = 100;
  float learning_rate = 0.01F;       // of W and b
  float mask_learning_rate = 0.05F;  // of s
  float sparsity = 0.2F;
};

struct MaskedAnswers {
  Matrix logits;                     // [Q, C]
  std::vector<uint32_t> active;      // [Q] a
  std::vector<uint32_t> kept;        // [Q] concepts that the mask keeps
  std::vector<double> own_accuracy;  // [Q] of the local head on its own neighbourhood
};

// One local head a query. `start` is a head on dense codes [C, S]; codes are those of the points, of which y [n] are
// the labels. Queries are worked on side by side; an answer depends neither on the other queries nor on the number of
// threads. Throws Error{bad_input} naming what does not fit (an absent neighbour, −1, too), Error{cancelled}.
MaskedAnswers masked_answers(const LinearHead& start, const SparseCodes& codes, std::span<const int> y,
                             const NeighbourIds& neighbours, const SparseCodes& queries, const MaskTraining& training,
                             const Watch& watch = {});

// Codes as rows [n, features], zeros included. Throws Error{bad_input} for a feature beyond them.
Matrix dense_codes(const SparseCodes& codes, size_t features);

}  // namespace hone
