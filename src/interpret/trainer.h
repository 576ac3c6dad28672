// What a trainer holds between steps.
#pragma once

#include "hone/sae.h"

namespace hone {

struct SaeTrainer::Impl {
  Sae sae;
  SaeTraining training;
  uint64_t steps = 0;
  uint64_t rows_seen = 0;
  std::vector<uint64_t> firings;  // [S]
  SaeGradients first, second;     // Adam's moments
  SaeGradients gradient;          // of the last step
  SparseCodes codes;              // of the last step

  Impl(Sae start, const SaeTraining& settings);
  size_t active() const;                     // k of the next step
  std::vector<uint32_t> dead() const;        // before the next step
  SaeStep differentiate(ConstMatrixView x);  // fills gradient and codes
  void descend(double gradient_norm);
};

SaeGradients zeros_like(const SaeConfig& config);

}  // namespace hone
