// What a GGUF file that is already open says about text: the functions of hone/tokenizer.h behind a path.
#pragma once

#include <memory>
#include <string>

#include "hone/tokenizer.h"
#include "model/gguf.h"

namespace hone {

std::unique_ptr<const Tokenizer> read_tokenizer(const Gguf& file);
ChatTemplate chat_template_of(const Gguf& file);
std::string default_system_of(const Gguf& file);

}  // namespace hone
