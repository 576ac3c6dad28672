// What `hone classify` says of its answers: one JSON object, a table, a file of predictions.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "hone/classify.h"

namespace hone::cli {

// What is asked, and what the answers are held against.
struct Queries {
  std::vector<size_t> rows;  // of the test file
  std::vector<int> truth;    // by the training data's labels
  size_t ignored = 0;        // test rows of other labels
};

nlohmann::json classify_json(const Classification& result, const std::vector<ClassifyScore>& scores,
                             const Queries& queries);

void print_classify_table(const ClassifyOptions& options, const Classification& result,
                          const std::vector<ClassifyScore>& scores, const Queries& queries);

// A CSV line a query: its row in the test file, from 0, its label, then every way's choice, which is empty for a head
// that diverged, then hone's probabilities.
void write_predictions(const std::filesystem::path& path, const Classification& result, const Queries& queries,
                       std::span<const std::string> labels);

}  // namespace hone::cli
