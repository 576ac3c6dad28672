// A disk of a few bytes, in memory. Mounting needs rights: a test skips where it is refused.
#pragma once

#include <gtest/gtest.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

namespace hone::test {

class SmallDisk {
 public:
  // `size` as mount takes it: "700k", "16m".
  SmallDisk(std::filesystem::path place, const std::string& size) : place_(std::move(place)) {
    std::filesystem::create_directories(place_);
    mounted_ = ::mount("tmpfs", place_.c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(place_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  bool mounted() const { return mounted_; }
  const std::filesystem::path& path() const { return place_; }
  void resize(const std::string& size) const { remount(0, "size=" + size); }
  void make_read_only() const { remount(MS_RDONLY, ""); }
  // A file that takes what is left, to the last byte.
  std::filesystem::path fill() const {
    const std::filesystem::path file = place_ / "filler";
    std::ofstream out(file, std::ios::binary);
    const std::string block(4096, '.');
    while (out.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
    EXPECT_EQ(std::filesystem::space(place_).available, 0u);
    return file;
  }

 private:
  void remount(unsigned long flags, const std::string& options) const {
    EXPECT_EQ(::mount("tmpfs", place_.c_str(), "tmpfs", MS_REMOUNT | flags, options.c_str()), 0);
  }

  std::filesystem::path place_;
  bool mounted_ = false;
};

}  // namespace hone::test

#define HONE_NEED_DISK(disk) \
  if (!(disk).mounted()) GTEST_SKIP() << "cannot mount a tmpfs"
