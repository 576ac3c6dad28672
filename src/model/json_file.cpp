#include "model/json_file.h"

#include "base/files.h"

namespace hone {

JsonFile::JsonFile(std::filesystem::path path) : path_(std::move(path)) {
  root_ = nlohmann::json::parse(read_file(path_), nullptr, /*allow_exceptions=*/false);
  if (!root_.is_object())
    throw Error(ErrorCode::corrupt, fmt::format("'{}' is not a JSON object; download the model again", path_.string()));
}

const nlohmann::json* JsonFile::find(std::string_view pointer) const {
  const nlohmann::json::json_pointer at{std::string(pointer)};
  if (!root_.contains(at)) return nullptr;
  const nlohmann::json& value = root_.at(at);
  return value.is_null() ? nullptr : &value;
}

int JsonFile::positive(std::string_view pointer, int64_t most) const {
  const nlohmann::json* value = find(pointer);
  if (!value) corrupt(pointer, "the field is missing");
  if (!value->is_number_integer() || *value < 1 || *value > most)
    corrupt(pointer, fmt::format("expected an integer from 1 to {}", most));
  return value->get<int>();
}

void JsonFile::corrupt(std::string_view pointer, std::string_view what) const {
  throw Error(ErrorCode::corrupt,
              fmt::format("'{}': {}: {}; download the model again", path_.string(), pointer.substr(1), what));
}

}  // namespace hone
