// Where `hone sae` reads activations: from DATA, or from a model's layer over texts.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "cli/command_line.h"
#include "hone/sae.h"

namespace hone::cli {

struct ActivationSource {
  std::filesystem::path data;
  std::filesystem::path model;
  std::filesystem::path store;
  std::vector<std::filesystem::path> texts;
  int layer = 0;
  size_t window = 256;
  int threads = 0;

  void add_to(Command command);
  // Sets what follows; without a model only `batches`.
  void open(uint64_t seed, const Watch& watch);

  std::shared_ptr<const Model> language_model;
  std::vector<std::vector<Token>> windows;
  std::unique_ptr<ActivationBatches> batches;
};

}  // namespace hone::cli
