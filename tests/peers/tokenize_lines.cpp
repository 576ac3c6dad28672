// Feeds a peer test: reads texts from stdin, each after its length in bytes (uint32, little-endian), and writes the
// number of their ids and the ids (int32 each).
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "hone/base.h"
#include "hone/tokenizer.h"
#include "model/wordpiece.h"

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::fprintf(stderr, "usage: tokenize_lines MODEL [--special]\n");
    return 2;
  }
  try {
    std::unique_ptr<const hone::Tokenizer> tokenizer;
    if (std::filesystem::is_directory(argv[1]))
      tokenizer = hone::WordPieceTokenizer::open_folder(argv[1]);
    else
      tokenizer = hone::Tokenizer::open(argv[1]);
    std::string text;
    uint32_t length = 0;
    while (std::fread(&length, sizeof length, 1, stdin) == 1) {
      text.resize(length);
      if (std::fread(text.data(), 1, length, stdin) != length) return 1;
      const std::vector<hone::Token> tokens = tokenizer->encode(text, argc == 3);
      const auto count = static_cast<int32_t>(tokens.size());
      std::fwrite(&count, sizeof count, 1, stdout);
      std::fwrite(tokens.data(), sizeof(hone::Token), tokens.size(), stdout);
    }
  } catch (const hone::Error& error) {
    std::fprintf(stderr, "tokenize_lines: %s\n", error.what());
    return 1;
  }
  return 0;
}
