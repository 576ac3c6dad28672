// The inner loops of local heads. Everything of one query lies in the blocks that two products read and write alike, so
// that no vector is summed across its lanes and none is transposed within an epoch:
//   a tile list of r rows by c columns is [⌈c / width⌉][r][width]; lanes beyond c are zero.
// product(): out = coefficients · panel, where coefficients (a tile list of rows by depth) are read one lane at a time.
#pragma once

#include <cstddef>

namespace hone {

// Lanes of a tile on this CPU: two vectors.
size_t tile_width();
inline size_t tiles(size_t columns) { return (columns + tile_width() - 1) / tile_width(); }
inline size_t tile_list_size(size_t rows, size_t columns) { return tiles(columns) * rows * tile_width(); }

// k points with f features each, as tile lists of both orientations, and their labels.
struct LocalPoints {
  size_t points = 0;
  size_t features = 0;
  float* by_feature = nullptr;  // tile list [features by points]
  float* by_point = nullptr;    // tile list [points by features]
  float* labels = nullptr;      // [tiles(points) · width]
  float* shares = nullptr;      // [tiles(points) · width]: 1/points, and 0 beyond
};

// logits (tile list [rows by points]) = weights (tile list [rows by features]) · points.
void local_logits(const LocalPoints& points, const float* weights, size_t rows, float* logits);
// gradient (tile list [classes by features]) = residuals (tile list [classes by points]) · points.
void local_gradient(const LocalPoints& points, const float* residuals, size_t classes, float* gradient);

// residuals = (softmax(logits) − one-hot labels) · shares: the mean cross-entropy's derivative, in place.
void local_residuals(const LocalPoints& points, size_t classes, float* logits);
// Σ_i −log softmax(logits_i)[y_i]
double local_loss(const LocalPoints& points, size_t classes, const float* logits);

// One step of Adam along residuals · points; moments and weights are tile lists [classes by features], scratch holds
// one tile [classes][width].
struct AdamStep {
  float rate;             // η / (1 − β1ᵗ)
  float root_correction;  // 1 / sqrt(1 − β2ᵗ)
};
constexpr float adam_beta1 = 0.9F, adam_beta2 = 0.999F, adam_epsilon = 1e-8F;
void local_adam_step(const LocalPoints& points, const float* residuals, size_t classes, AdamStep step, float* weights,
                     float* first, float* second, float* scratch);

// The mean cross-entropy at logits + t·change with its derivatives along t; residuals are those at that point.
struct LinePoint {
  double value = 0;
  double slope = 0;
  double curvature = 0;
};
LinePoint local_line(const LocalPoints& points, size_t classes, const float* logits, const float* change, float t,
                     float* residuals);

// What stands out among the features' second moments is their mean μ: M = s I + μ μᵀ, s from their variances.
struct MomentInverse {
  float* mean = nullptr;  // [tiles(features) · width]
  float factor = 0;       // 1 / (s + ‖μ‖²)
};
void local_moments(const LocalPoints& points, MomentInverse& moments);
// Multiplies every row of a tile list [rows by features] by s M⁻¹.
void local_precondition(const MomentInverse& moments, size_t rows, size_t features, float* values);

double dot(const float* a, const float* b, size_t count);
// y += t·x
void add_scaled(float t, const float* x, float* y, size_t count);

}  // namespace hone
