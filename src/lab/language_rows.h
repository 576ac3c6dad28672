// Rows of language-scaling: bits of one held-out window after 0, 1, 2, … neighbours of the published protocol.
#pragma once

#include <string>
#include <vector>

#include "hone/adapt.h"
#include "lab/experiment.h"
#include "lab/text_corpora.h"

namespace hone::lab {

struct LanguageOptions {
  std::vector<size_t> neighbours = {0, 1, 2, 5, 10, 20, 50};  // where the window is scored; ascending, the first is 0
  PublishedOptions published = {};
  double duplicate_share = 0.05;  // of the window's 13-grams: a chunk that holds more is a near-duplicate
  double floor = 0.02;            // of the mixture
};

// −log p of text[1], text[2], … (BOS, if the model wants it, is part of the text), natural logarithm: row c after the
// published protocol has read the first scored_at[c] of `neighbours`, or all where there are fewer. One run gives every
// row: [scored_at, text − 1]. `scored_at` ascends. Throws Error{bad_input} for a text of no token to predict or beyond
// the model's context, Error{cancelled}.
Matrix losses_along_neighbours(const Model& model, std::span<const Token> text,
                               std::span<const std::vector<Token>> neighbours, std::span<const size_t> scored_at,
                               const PublishedOptions& options, const Watch& watch = {});

std::vector<std::string> language_columns();

// The window with its nearest neighbours "kept" as they are and with near-duplicates "removed" (the next nearest take
// their places): a row for each number of neighbours, and one for the mixture over all of them. Without near-duplicates
// both are one run. Neighbours are BM25's for the whole window, as published.
std::vector<Row> language_rows(const Model& model, const Store& store, const std::string& corpus,
                               const TextWindow& window, const LanguageOptions& options, const Watch& watch = {});

// From all rows; the config is language-scaling's.
Report language_report(const Json& config, const Table& rows);

}  // namespace hone::lab
