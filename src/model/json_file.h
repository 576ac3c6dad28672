// JSON files of a model folder: parsed and looked into with errors that name file and field.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "hone/base.h"

namespace hone {

class JsonFile {
 public:
  // Throws Error{not_found, io}, Error{corrupt} if it is not a JSON object.
  explicit JsonFile(std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }
  const nlohmann::json& root() const { return root_; }
  // The value at a JSON pointer ("/model/vocab"); nullptr if it is missing or null.
  const nlohmann::json* find(std::string_view pointer) const;
  // Throw Error{corrupt} if the value is of another type; without a fallback also if it is missing.
  std::string string(std::string_view pointer) const { return get<std::string>(pointer, "a string"); }
  std::string string_or(std::string_view pointer, std::string fallback) const {
    return find(pointer) ? string(pointer) : fallback;
  }
  bool boolean_or(std::string_view pointer, bool fallback) const {
    return find(pointer) ? get<bool>(pointer, "true or false") : fallback;
  }
  double real_or(std::string_view pointer, double fallback) const {
    return find(pointer) ? get<double>(pointer, "a number") : fallback;
  }
  // In [1, most].
  int positive(std::string_view pointer, int64_t most) const;

  [[noreturn]] void corrupt(std::string_view pointer, std::string_view what) const;

 private:
  template <class T>
  T get(std::string_view pointer, std::string_view kind) const {
    const nlohmann::json* value = find(pointer);
    if (!value) corrupt(pointer, "the field is missing");
    try {
      return value->get<T>();
    } catch (const nlohmann::json::exception&) {
      corrupt(pointer, fmt::format("expected {}", kind));
    }
  }

  std::filesystem::path path_;
  nlohmann::json root_;
};

}  // namespace hone
