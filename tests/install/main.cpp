// Uses an installed hone the way a stranger's program would: headers, library, and the exception across both.
#include <array>
#include <cmath>
#include <cstdio>

#include "hone/adapt.h"
#include "hone/base.h"
#include "hone/decide.h"
#include "hone/fewshot.h"

int main() {
  hone::decide::Mixture mixture({0.5, 0.5}, hone::decide::Sharing::bayes);
  const double log_prob = mixture.update(std::array{std::log(0.25), std::log(0.75)});
  if (std::abs(log_prob - std::log(0.5)) > 1e-12 || mixture.updates() != 1) {
    std::fprintf(stderr, "the mixture of 0.25 and 0.75 should be 0.5, got %.17g\n", std::exp(log_prob));
    return 1;
  }
  try {
    hone::decide::Mixture({0.5, 0.6}, hone::decide::Sharing::bayes);
  } catch (const hone::Error& error) {
    std::printf("installed hone works; a wrong prior is refused: %s\n", error.what());
    return error.code == hone::ErrorCode::bad_input ? 0 : 1;
  }
  std::fprintf(stderr, "a prior that sums to 1.1 was accepted\n");
  return 1;
}
