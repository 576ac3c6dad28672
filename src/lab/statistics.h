// Whether methods differ: paired differences over tasks, with intervals and p values corrected for their number.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "hone/decide.h"

namespace hone::lab {

// What a method scored on each task; lower is better.
struct Method {
  std::string name;
  std::vector<double> values;  // [tasks], the same tasks for every method
};

// Not a number if values is empty.
double mean(std::span<const double> values);

// Sample standard deviation over sqrt(n); 0 for one value. Throws Error{bad_input} if values is empty.
double standard_error(std::span<const double> values);

using decide::share_interval;

// Two-sided paired permutation test of mean 0: under the hypothesis each difference's sign is a fair coin. Exact over
// all 2^m sign flips of the m differences that are not 0 where that is at most 2^16, otherwise from `draws` flips of
// the stream (seed, "sign flips") as (1 + as extreme)/(1 + draws), never 0. Throws Error{bad_input} for no values or
// one that is not finite.
double sign_flip_p(std::span<const double> differences, uint64_t seed = 0, size_t draws = 20000);

// Holm's step-down correction (Holm 1979): p values that may each be held against α with a probability of at most α
// that any true hypothesis is rejected. In the order of `p`.
std::vector<double> holm(std::span<const double> p);

// Method a minus method b over the same tasks.
struct Comparison {
  std::string a, b;
  decide::Interval difference;  // mean, 95 % paired bootstrap
  double p = 1;                 // sign_flip_p
  double holm_p = 1;            // corrected for all pairs of the family
  bool found = false;           // holm_p ≤ .05: a difference was found
};

// Holm's correction of `family` in place: sets holm_p and found. Call it again over several families joined into one.
void correct(std::span<Comparison> family);
// Every pair of methods (a before b), one family. Throws Error{bad_input} if the numbers of tasks differ or are 0.
std::vector<Comparison> compare_all(std::span<const Method> methods, uint64_t seed = 0);
// Only the pairs (a, b) given by index into `methods`, one family.
std::vector<Comparison> compare(std::span<const Method> methods, std::span<const std::pair<size_t, size_t>> pairs,
                                uint64_t seed = 0);

}  // namespace hone::lab
