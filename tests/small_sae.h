// An autoencoder small enough to check by hand, and rows for it.
#pragma once

#include <string>

#include "base/random.h"
#include "hone/sae.h"

namespace hone::test {

inline Matrix normals(size_t rows, size_t cols, const std::string& stream) {
  Matrix values(rows, cols);
  RandomStream(7, stream).normals({values.data(), values.size()}, 1);
  return values;
}

inline Sae small_sae(const SaeConfig& config = {.inputs = 9, .features = 40, .active = 3}) {
  Sae sae = Sae::create(config, 1);
  RandomStream random(2, "biases");
  random.normals(sae.encoder_bias, 0.1F);
  random.normals(sae.decoder_bias, 0.1F);
  return sae;
}

}  // namespace hone::test
