// Texts that every Debian machine has: read, split into windows of held-out files and texts to learn from, and indexed.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hone/model.h"
#include "hone/store.h"

namespace hone::lab {

struct Document {
  std::string name;  // its path below the corpus' folder
  std::string text;
};

struct Corpus {
  std::string name;
  std::vector<Document> documents;  // by name; of several with the same text the first
  std::string hash;                 // of all names and texts
};

// Files below a folder whose names end so, by path. Throws Error{io} for one that cannot be read.
std::vector<std::filesystem::path> files_below(const std::filesystem::path& folder,
                                               std::span<const std::string_view> ends);

// The sources of more than 4 000 bytes of Python's standard library, which stands in a folder of `libraries`, without
// tests, without what was installed beside it, and without encodings/, whose files are near-copies of one table. Throws
// Error{not_found} that names the Debian package if there are none.
Corpus python_library(const std::filesystem::path& libraries = "/usr/lib");
// The English pages of more than 4 000 bytes of Linux's prose documentation: guides, not references made from sources.
// Throws in the same way.
Corpus linux_documentation(const std::filesystem::path& documentation = "/usr/share/doc");

// Whole lines from the middle of a document.
struct TextWindow {
  std::string document;
  size_t offset = 0;  // bytes
  std::string text;
};

struct Split {
  std::vector<TextWindow> windows;       // one a document, none of which is to learn from
  std::vector<const Document*> learned;  // of the corpus, which must outlive them
};

// A third of the documents that are long enough for a window is held out, drawn from the stream (seed,
// "held out/NAME"); the first `count` drawn have a window each. What is learned from does not depend on `count`. A
// window starts with the first line behind `offset` bytes and has at most `bytes`, at least half of them. Throws
// Error{bad_input} if fewer than `count` are held out.
Split split(const Corpus& corpus, size_t count, size_t offset, size_t bytes, uint64_t seed);

// A store of these documents' chunks for the model, in `folder` under a hash of all that it is made of; indexed first
// if it is not there. Throws Error{busy} while another process indexes it, Error{io, cancelled}.
Store corpus_store(const Model& model, std::span<const Document* const> documents, size_t chunk_tokens,
                   const std::filesystem::path& folder, const Watch& watch = {});

}  // namespace hone::lab
