// The models that `hone model get` knows: which Python packages carry the weights, and the hash they must have.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "hone/base.h"

namespace hone {

struct HubModel {
  // An entry of one package; several are a file's parts in order.
  struct Part {
    std::string package;
    std::string version;
    std::string entry;  // path inside the wheel
  };
  struct File {
    std::string path;    // below the model's folder; empty: the model is this one file
    std::string sha256;  // of the whole file
    std::vector<Part> parts;
  };
  std::string name;
  std::string place;    // name in the cache directory, of the file or of the folder
  std::string licence;  // one line
  std::vector<File> files;
};

std::span<const HubModel> hub_models();
// Throws Error{bad_input} listing the names.
const HubModel& hub_model(std::string_view name);

enum class HubState {
  absent,
  damaged,  // there, but a file is missing or has another hash
  ready,
};

// cache_directory() / model.place, whether or not it is there.
std::filesystem::path hub_path(const HubModel& model);
// Hashes the files. Throws Error{io}.
HubState hub_state(const HubModel& model);

// Downloads with pip, checks the hashes and renames into place: afterwards hub_path(model) is the right file or folder,
// or it is what it was before. Throws Error{unsupported} if there is no pip, Error{io} if pip fails, Error{corrupt} if
// what came has another hash, Error{cancelled}. Removes what downloads left that were killed a day ago or more. The
// first of `pythons` that has pip is used.
void hub_download(const HubModel& model, const Watch& watch = {},
                  const std::vector<std::string>& pythons = {"python3", "/usr/bin/python3"});

}  // namespace hone
