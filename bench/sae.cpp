// Trains a top-k sparse autoencoder on demand, so that bench/sae.py can interleave it with torch: reads lines
// "STEPS" and answers each with the seconds of so many steps. Usage: bench_sae INPUTS FEATURES BATCH ACTIVE DROPOUT
// REVIVAL
#include <fmt/format.h>

#include <chrono>
#include <iostream>
#include <string>

#include "base/random.h"
#include "hone/sae.h"

int main(int argc, char** argv) {
  using namespace hone;
  if (argc != 7) return 2;
  const std::span<char*> arguments(argv, static_cast<size_t>(argc));
  const size_t inputs = std::stoul(arguments[1]), features = std::stoul(arguments[2]);
  const size_t batch = std::stoul(arguments[3]), active = std::stoul(arguments[4]);
  SaeTrainer trainer(Sae::create({.inputs = inputs, .features = features, .active = active}, 0),
                     {.batch = batch,
                      .initial_active = active,
                      .dropout = std::stof(arguments[5]),
                      .revival = std::string(arguments[6]) == "ghost" ? Revival::ghost : Revival::none});
  Matrix x(batch, inputs);
  RandomStream random(1, "bench");
  for (std::string line; std::getline(std::cin, line);) {
    const size_t steps = std::stoul(line);
    double seconds = 0;
    for (size_t i = 0; i < steps; ++i) {
      random.normals({x.data(), x.size()}, 1);
      const auto start = std::chrono::steady_clock::now();
      trainer.step(x);
      seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    fmt::print("{}\n", seconds);
    std::fflush(stdout);
  }
}
