// Embeds one fixed list of texts on demand, so that bench/embed.py can interleave hone with torch:
// bench_embed MODEL TEXTS, a text a line. A line "tokens" on standard input is answered with the texts' token ids, a
// line each; "fp32" or "int8" with the seconds that all texts took, in batches of 32 as they stand, tokenising
// included, and with the first value of the first vector.
#include <fmt/format.h>

#include <chrono>
#include <fstream>
#include <iostream>
#include <map>

#include "base/heap.h"
#include "hone/encoder.h"

int main(int argc, char** argv) {
  using namespace hone;
  keep_freed_memory();
  if (argc != 3) {
    fmt::print(stderr, "usage: bench_embed MODEL TEXTS\n");
    return 2;
  }
  std::vector<std::string> texts;
  std::ifstream file(argv[2]);
  for (std::string line; std::getline(file, line);) texts.push_back(line);
  const std::map<std::string, std::shared_ptr<const TextEncoder>> encoders = {
      {"fp32", TextEncoder::open(argv[1])}, {"int8", TextEncoder::open(argv[1], {.precision = Precision::int8})}};
  set_threads(2);
  for (std::string precision; std::cin >> precision;) {
    if (precision == "tokens") {
      for (const std::string& text : texts) fmt::print("{}\n", fmt::join(encoders.at("fp32")->encode(text), " "));
      std::fflush(stdout);
      continue;
    }
    const auto start = std::chrono::steady_clock::now();
    const Matrix vectors = encoders.at(precision)->embed(texts, {.batch = 32});
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    fmt::print("{:.6f} {:.9g}\n", passed.count(), vectors.row(0)[0]);
    std::fflush(stdout);
  }
}
