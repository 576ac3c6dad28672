#include "lab/saved_spaces.h"

#include <algorithm>

namespace hone::lab {

Json saved_spaces_config() {
  Json config = {{"data_hash", image_data_hash("MNIST")}, {"nets", Json::array()}};
  for (const SavedNet& net : saved_nets()) {
    Json entry = saved_file_config(net.file + ".safetensors");
    entry["title"] = net.title;
    entry["width"] = net.width;
    entry.update(published_parameters(net.width));
    config["nets"].push_back(entry);
  }
  return config;
}

SavedSpaces::SavedSpaces(const Json& config, const Watch& watch) {
  if (image_data_hash("MNIST") != config.at("data_hash"))
    throw Error(ErrorCode::bad_input, "MNIST is not the data that this run began with");
  ImageData data = read_image_data("MNIST");
  for (const Json& net : config.at("nets"))
    spaces.push_back(feature_space(LeNet::open(checked_file(net)), data, watch));
  train_labels = std::move(data.train.labels);
  test_labels = std::move(data.test.labels);
}

size_t query_tasks(const Json& config) {
  const size_t queries = config.at("queries"), block = config.at("queries_a_task");
  return (queries + block - 1) / block;
}

QueryBlock query_block(const Json& config, size_t task) {
  const size_t queries = config.at("queries"), block = config.at("queries_a_task");
  const size_t first = task % query_tasks(config) * block;
  return {task / query_tasks(config), first, std::min(block, queries - first)};
}

}  // namespace hone::lab
