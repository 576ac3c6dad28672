// The authors' networks with their features of MNIST, and tasks that are blocks of test images of one network.
#pragma once

#include <vector>

#include "lab/image_data.h"

namespace hone::lab {

// For config.json: "data_hash" and "nets", each with file, SHA-256, title, width and published_parameters().
Json saved_spaces_config();

struct SavedSpaces {
  // Features of every network of such a config. Throws as image_data.h does.
  SavedSpaces(const Json& config, const Watch& watch);

  std::vector<FeatureSpace> spaces;  // [nets]
  std::vector<int> train_labels, test_labels;
};

// Task `task` of nets × blocks of "queries_a_task" out of "queries".
struct QueryBlock {
  size_t net, first, count;
};
size_t query_tasks(const Json& config);  // of one network
QueryBlock query_block(const Json& config, size_t task);

}  // namespace hone::lab
