// Documents: from the bytes of a file to the texts in it.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace hone::store {

// What became of a file's bytes.
struct DocumentScan {
  size_t documents = 0;
  std::string skipped;  // why the file, or which of its lines, gave no document; "" if nothing was left out
};

// Calls `take` for every document, as valid UTF-8: the lines of .jsonl and .ndjson files give their "text" field, any
// other file is one document. Binary files and blank documents give none. Invalid sequences become U+FFFD.
DocumentScan for_each_document(const std::filesystem::path& path, std::string contents,
                               const std::function<void(std::string_view)>& take);

// Replaces each maximal invalid sequence by U+FFFD. Returns how many bytes were replaced.
size_t make_valid_utf8(std::string& text);

}  // namespace hone::store
