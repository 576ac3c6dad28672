// Trains a top-k sparse autoencoder on demand, so that bench/sae.py can interleave it with torch: reads lines "STEPS"
// and answers each with the seconds of so many steps and the features that were dead before the last. DEAD features,
// evenly spaced, start with a bias at which they never fire. Usage: bench_sae INPUTS FEATURES BATCH ACTIVE DROPOUT
// REVIVAL DEAD
#include <fmt/format.h>

#include <chrono>
#include <iostream>
#include <string>

#include "base/heap.h"
#include "base/random.h"
#include "hone/sae.h"

int main(int argc, char** argv) {
  using namespace hone;
  keep_freed_memory();
  if (argc != 8) return 2;
  const std::span<char*> arguments(argv, static_cast<size_t>(argc));
  const size_t inputs = std::stoul(arguments[1]), features = std::stoul(arguments[2]);
  const size_t batch = std::stoul(arguments[3]), active = std::stoul(arguments[4]);
  const size_t dead = std::stoul(arguments[7]);
  Sae start = Sae::create({.inputs = inputs, .features = features, .active = active}, 0);
  for (size_t i = 0; i < dead; ++i) start.encoder_bias[i * features / dead] = -1;
  SaeTrainer trainer(std::move(start),
                     {.batch = batch,
                      .initial_active = active,
                      .learning_rate = 1e-6F,
                      .warmup_steps = 0,
                      .dropout = std::stof(arguments[5]),
                      .revival = std::string(arguments[6]) == "ghost" ? Revival::ghost : Revival::none});
  Matrix x(batch, inputs);
  RandomStream random(1, "bench");
  for (std::string line; std::getline(std::cin, line);) {
    const size_t steps = std::stoul(line);
    double seconds = 0;
    size_t found_dead = 0;
    for (size_t i = 0; i < steps; ++i) {
      random.normals({x.data(), x.size()}, 1);
      const auto begin = std::chrono::steady_clock::now();
      found_dead = trainer.step(x).dead;
      seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
    fmt::print("{} {}\n", seconds, found_dead);
    std::fflush(stdout);
  }
}
