// Files of labelled examples.
#pragma once

#include <filesystem>
#include <vector>

#include "hone/fewshot.h"

namespace hone::cli {

// From a name that ends in .csv or .tsv: a table (RFC 4180, .tsv with tabs) whose header names the columns input and
// label. From any other: JSONL, an object {"input": text, "label": text or number} on every line that is not blank.
// Throws Error{bad_input} naming file and line, Error{not_found, io}.
std::vector<LabelledText> read_examples(const std::filesystem::path& file);

// The lines of a text that are not blank, without their ends and a byte order mark.
std::vector<std::string> lines_of(const std::string& text);

}  // namespace hone::cli
