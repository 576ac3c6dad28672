// The parts of a transformer between its matrix products: norms, rotations, gates, softmax; forward and backward.
#pragma once

#include <span>
#include <vector>

#include "hone/base.h"

namespace hone {

enum class Activation { silu, gelu_tanh };
enum class RopePairs {
  neighbours,  // (0, 1), (2, 3), …: llama files, whose rows are permuted for it
  halves,      // (0, d/2), (1, d/2 + 1), …: qwen2, gemma3
};

// y[p] = x[p] / sqrt(mean(x[p]²) + eps) · weight. y may be x.
void rms_norm(ConstMatrixView x, std::span<const float> weight, float eps, MatrixView y);
// dx[p] (+)= gradient w.r.t. x of the above, given dy.
void rms_norm_backward(ConstMatrixView x, std::span<const float> weight, float eps, ConstMatrixView dy, MatrixView dx,
                       bool accumulate);
// The derivative of the above along dx: dy [R · P], row r·P + p along direction r at x[p]. dy may be dx.
void rms_norm_tangents(ConstMatrixView x, std::span<const float> weight, float eps, ConstMatrixView dx, MatrixView dy);

// y[p] = (x[p] − mean(x[p])) / sqrt(variance(x[p]) + eps) · weight + bias. y may be x.
void layer_norm(ConstMatrixView x, std::span<const float> weight, std::span<const float> bias, float eps, MatrixView y);

// Gaussian error linear units x Φ(x) (Hendrycks & Gimpel 2016), Φ by the error function or by its tanh approximation.
enum class Gelu { erf, tanh };
// In place.
void gelu(Gelu form, MatrixView x);

// y = activation(gate) · up, all [P, F].
void gate(Activation activation, ConstMatrixView gate, ConstMatrixView up, MatrixView y);
// d_gate and d_up [P, F] from dy. d_gate may be gate or dy, d_up may be up.
void gate_backward(Activation activation, ConstMatrixView gate, ConstMatrixView up, ConstMatrixView dy,
                   MatrixView d_gate, MatrixView d_up);
// The derivative of gate() along d_gate and d_up [R · P, F], written over d_gate.
void gate_tangents(Activation activation, ConstMatrixView gate, ConstMatrixView up, MatrixView d_gate,
                   ConstMatrixView d_up);

// cos and sin of position · frequency for each row: [P, head_dim / 2] each.
struct RopeTable {
  Matrix cosine;
  Matrix sine;
};
// Frequencies are base^(−2i/head_dim) / factors[i]; empty factors mean ones.
RopeTable rope_table(std::span<const size_t> positions, size_t head_dim, double base, std::span<const float> factors);
// Rotates every head of x [P, heads · head_dim] in place by its row's position; `inverse` rotates back, which is also
// the backward pass.
void rope(MatrixView x, size_t head_dim, const RopeTable& table, RopePairs pairs, bool inverse = false);

// log Σ exp(x).
float log_sum_exp(std::span<const float> x);
// y[v] = log Σ_e weights[e] · exp(x[e, v]), x [E, V] of log-probabilities. NaN counts as probability 0. In every column
// an entry of positive weight is finite.
void log_mixture(ConstMatrixView x, std::span<const double> weights, std::span<float> y);
// x[v] = weight · exp(x[v] − log_normalizer), then x[target] −= weight: the gradient of cross-entropy w.r.t. logits.
void cross_entropy_gradient(std::span<float> x, float log_normalizer, size_t target, float weight);

// y += x.
void add(ConstMatrixView x, MatrixView y);

}  // namespace hone
