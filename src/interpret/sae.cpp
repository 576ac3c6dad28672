#include "hone/sae.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "interpret/encode.h"
#include "model/gemm.h"

namespace hone {
namespace {

constexpr size_t bytes_of_codes = 64'000'000;
constexpr size_t rows_a_block = 480;  // a multiple of what the products take at once

double square_norm(std::span<const float> x) {
  double sum = 0;
  for (const float value : x) sum += static_cast<double>(value) * value;
  return sum;
}

void check_width(const SaeConfig& config, ConstMatrixView x) {
  if (x.cols != config.inputs)
    throw Error(ErrorCode::bad_input,
                fmt::format("activations: rows of {} values; the autoencoder reads rows of {}", x.cols, config.inputs));
}

void scale(std::span<float> x, double factor) {
  if (factor <= std::numeric_limits<float>::max()) return scale_by(static_cast<float>(factor), x);
  for (float& value : x) value = static_cast<float>(value * factor);  // of denormals
}

}  // namespace

SparseCodes::SparseCodes(size_t rows, size_t places)
    : width(places), counts(rows), features(rows * places), values(rows * places) {}

void check_config(const SaeConfig& config) {
  if (config.inputs == 0 || config.features == 0)
    throw Error(ErrorCode::bad_input,
                fmt::format("an autoencoder of {} inputs and {} features: both must be at least 1", config.inputs,
                            config.features));
  if (config.active == 0 || config.active > config.features)
    throw Error(ErrorCode::bad_input, fmt::format("k: {} active features; give 1 to {}, the number of features",
                                                  config.active, config.features));
}

Sae Sae::create(const SaeConfig& config, uint64_t seed) {
  check_config(config);
  Sae sae{config,
          Matrix::uninitialized(config.features, config.inputs),
          std::vector<float>(config.features),
          {},
          std::vector<float>(config.inputs)};
  RandomStream(seed, "sae").normals({sae.encoder.data(), sae.encoder.size()}, 1);
  for (size_t f = 0; f < config.features; ++f) {
    const double norm = std::sqrt(square_norm(sae.encoder.row(f)));
    if (norm > 0) scale(sae.encoder.row(f), 1 / norm);
  }
  sae.decoder = sae.encoder.copy();
  return sae;
}

Sae Sae::copy() const { return {config, encoder.copy(), encoder_bias, decoder.copy(), decoder_bias}; }

Matrix Sae::inputs(ConstMatrixView x) const {
  check_width(config, x);
  Matrix result = Matrix::uninitialized(x.rows, x.cols);
  parallel_ranges(x.rows, 64, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const double square = square_norm(x.row(i));
      if (!std::isfinite(square))
        throw Error(ErrorCode::bad_input,
                    fmt::format("activations: row {} of the batch holds a value that is not finite", i));
      std::ranges::copy(x.row(i), result.row(i).begin());
      if (config.unit_inputs && square > 0) scale(result.row(i), 1 / std::sqrt(square));
    }
  });
  return result;
}

Matrix Sae::directions() const {
  Matrix rows = decoder.copy();
  if (!config.unit_rows) return rows;
  parallel_ranges(rows.rows(), 64, [&](size_t begin, size_t end) {
    for (size_t f = begin; f < end; ++f) {
      const float square = inner_product(rows.row(f), rows.row(f));
      if (square > 0) scale(rows.row(f), 1 / std::sqrt(square));
    }
  });
  return rows;
}

Matrix without_bias(ConstMatrixView x, std::span<const float> bias) {
  Matrix result = Matrix::uninitialized(x.rows, x.cols);
  parallel_ranges(x.rows, 64, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) std::ranges::transform(x.row(i), bias, result.row(i).begin(), std::minus<>());
  });
  return result;
}

namespace {

// Pre-activations of row i → what is kept of them.
void keep_largest(const Sae& sae, std::span<float> values, size_t i, const Encoding& encoding, Selection& selection,
                  SparseCodes& codes) {
  add_scaled(1, sae.encoder_bias, values);
  if (encoding.dropout > 0) {
    RandomStream random(encoding.keys[i], "dropout");
    drop_out(values, encoding.dropout, random);
  }
  for (size_t w = 0; w < encoding.watched.size(); ++w) encoding.watched_values.row(i)[w] = values[encoding.watched[w]];
  select_largest(values, encoding.active, selection);
  uint32_t count = 0;
  for (const uint32_t feature : selection.features) {
    const float value = values[feature];
    if (value == 0 || (sae.config.relu && value < 0)) continue;
    codes.features[i * codes.width + count] = feature;
    codes.values[i * codes.width + count++] = value;
  }
  codes.counts[i] = count;
}

}  // namespace

void encode_rows(const Sae& sae, ConstMatrixView x, const Encoding& encoding, SparseCodes& codes) {
  const PackedRows packed(x);
  Matrix block = Matrix::uninitialized(std::min(rows_a_block, x.rows), sae.config.features);
  for (size_t first = 0; first < x.rows; first += rows_a_block) {
    const size_t count = std::min(rows_a_block, x.rows - first);
    linear_forward(packed, first, count, sae.encoder, block.view().row_range(0, count));
    parallel_ranges(count, 8, [&](size_t begin, size_t end) {
      Selection selection;
      for (size_t i = begin; i < end; ++i) keep_largest(sae, block.row(i), first + i, encoding, selection, codes);
    });
  }
}

void encode_in_blocks(const Sae& sae, ConstMatrixView x,
                      const std::function<void(size_t first, const SparseCodes& codes)>& use) {
  const size_t bytes_a_row = std::max<size_t>(sae.config.active, 1) * (sizeof(uint32_t) + sizeof(float));
  const size_t most = std::max<size_t>(bytes_of_codes / bytes_a_row, 1);
  for (size_t first = 0; first < x.rows; first += most)
    use(first, sae.encode(x.row_range(first, std::min(most, x.rows - first))));
}

void check_shapes(const Sae& sae) {
  const auto& [config, encoder, encoder_bias, decoder, decoder_bias] = sae;
  check_config(config);
  for (const Matrix* rows : {&encoder, &decoder})
    if (rows->rows() != config.features || rows->cols() != config.inputs)
      throw Error(ErrorCode::bad_input, fmt::format("an autoencoder's weights [{}, {}]: its config says [{}, {}]",
                                                    rows->rows(), rows->cols(), config.features, config.inputs));
  if (encoder_bias.size() != config.features || decoder_bias.size() != config.inputs)
    throw Error(ErrorCode::bad_input,
                fmt::format("an autoencoder's biases [{}] and [{}]: its config says [{}] and [{}]", encoder_bias.size(),
                            decoder_bias.size(), config.features, config.inputs));
}

SparseCodes Sae::encode(ConstMatrixView x) const {
  check_width(config, x);
  SparseCodes codes(x.rows, config.active);
  const Encoding encoding{.active = config.active, .keys = {}, .watched = {}, .watched_values = {}};
  if (config.pre_bias)
    encode_rows(*this, without_bias(x, decoder_bias), encoding, codes);
  else
    encode_rows(*this, x, encoding, codes);
  return codes;
}

Matrix Sae::decode(const SparseCodes& codes, ConstMatrixView directions) const {
  Matrix result = Matrix::uninitialized(codes.rows(), config.inputs);
  parallel_ranges(codes.rows(), 8, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      std::ranges::copy(decoder_bias, result.row(i).begin());
      add_rows(directions, codes.row_features(i), codes.row_values(i), result.row(i));
    }
  });
  return result;
}

Matrix Sae::reconstruct(ConstMatrixView x) const {
  const Matrix seen = inputs(x), rows = directions();
  Matrix result = Matrix::uninitialized(x.rows, config.inputs);
  encode_in_blocks(*this, seen, [&](size_t first, const SparseCodes& codes) {
    const Matrix decoded = decode(codes, rows);
    std::copy_n(decoded.data(), decoded.size(), result.row(first).data());
  });
  if (config.unit_inputs)
    for (size_t i = 0; i < x.rows; ++i) scale(result.row(i), std::sqrt(square_norm(x.row(i))));
  return result;
}

}  // namespace hone
