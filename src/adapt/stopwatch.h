// Seconds per named stage, in the order in which the stages ran first.
#pragma once

#include <algorithm>
#include <chrono>
#include <string_view>

#include "hone/adapt.h"

namespace hone {

inline double& seconds_of(StageSeconds& stages, std::string_view name) {
  const auto at = std::ranges::find(stages, name, &StageSeconds::value_type::first);
  return at != stages.end() ? at->second : stages.emplace_back(name, 0.0).second;
}

// Adds the time of its own life to a stage.
class Stopwatch {
 public:
  Stopwatch(StageSeconds& stages, std::string_view name) : stages_(stages), name_(name) {}
  ~Stopwatch() {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start_;
    seconds_of(stages_, name_) += passed.count();
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  StageSeconds& stages_;
  std::string_view name_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace hone
