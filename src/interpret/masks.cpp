#include "interpret/masks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/flushed.h"
#include "base/parallel.h"
#include "interpret/sparse.h"

namespace hone {
namespace {

constexpr float first_score = 1;

// A query's neighbourhood in its own concepts alone.
struct Neighbourhood {
  std::vector<uint32_t> concepts;  // ascending
  Matrix codes;                    // [k, concepts]
  std::vector<int> y;              // [k]
  LinearHead head;                 // W [C, concepts]
};

// The places of some concepts of a row among `concepts`; those that are not there are left out.
void spread(std::span<const uint32_t> concepts, std::span<const uint32_t> features, std::span<const float> values,
            std::span<float> to) {
  for (size_t j = 0; j < features.size(); ++j) {
    const auto place = std::ranges::lower_bound(concepts, features[j]);
    if (place != concepts.end() && *place == features[j]) to[static_cast<size_t>(place - concepts.begin())] = values[j];
  }
}

std::vector<uint32_t> active_concepts(const SparseCodes& codes, std::span<const int64_t> ids) {
  std::vector<uint32_t> concepts;
  for (const int64_t id : ids) {
    const auto features = codes.row_features(static_cast<size_t>(id));
    concepts.insert(concepts.end(), features.begin(), features.end());
  }
  std::ranges::sort(concepts);
  concepts.erase(std::unique(concepts.begin(), concepts.end()), concepts.end());
  return concepts;
}

Neighbourhood neighbourhood(const LinearHead& start, const SparseCodes& codes, std::span<const int> y,
                            std::span<const int64_t> ids, std::vector<uint32_t> concepts) {
  Neighbourhood result{std::move(concepts), {}, {}, {}};
  result.codes = Matrix(ids.size(), result.concepts.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    const auto id = static_cast<size_t>(ids[i]);
    spread(result.concepts, codes.row_features(id), codes.row_values(id), result.codes.row(i));
    result.y.push_back(y[id]);
  }
  result.head = {Matrix::uninitialized(start.classes(), result.concepts.size()), start.bias};
  for (size_t c = 0; c < start.classes(); ++c)
    for (size_t j = 0; j < result.concepts.size(); ++j)
      result.head.weights.row(c)[j] = start.weights.row(c)[result.concepts[j]];
  return result;
}

// Values and both moments of what Adam trains.
struct Trained {
  std::span<float> values;
  std::vector<float> first, second;

  explicit Trained(std::span<float> of) : values(of), first(of.size()), second(of.size()) {}
  void step(const SparseAdamStep& step, std::span<const float> gradient) {
    adam_step(step, gradient, first, second, values);
  }
};

std::vector<float> mask_of(std::span<const float> scores) {
  std::vector<float> mask(scores.size());
  std::ranges::transform(scores, mask.begin(), [](float score) { return score > 0 ? 1.0F : 0.0F; });
  return mask;
}

// Trains head and mask; returns the mask it ends with.
std::vector<float> train(Neighbourhood& local, const MaskTraining& training, MaskLoss& loss,
                         const CancelToken& cancel) {
  std::vector<float> scores(local.concepts.size(), first_score);
  Trained weights({local.head.weights.data(), local.head.weights.size()}), bias(local.head.bias), mask(scores);
  for (int t = 1; t <= training.steps; ++t) {
    cancel.check();
    loss.differentiate(local.head, local.codes, local.y, mask_of(scores), training.sparsity);
    SparseAdamStep step{training.learning_rate, 1, static_cast<float>(1 - std::pow(0.9, t)),
                        static_cast<float>(1 - std::pow(0.999, t))};
    weights.step(step, {loss.weights.data(), loss.weights.size()});
    bias.step(step, loss.bias);
    if (training.mask != Mask::learned) continue;
    for (size_t j = 0; j < scores.size(); ++j) {
      const float sigmoid = 1 / (1 + std::exp(-scores[j]));
      loss.mask[j] *= sigmoid * (1 - sigmoid);
    }
    step.learning_rate = training.mask_learning_rate;
    mask.step(step, loss.mask);
  }
  return mask_of(scores);
}

void check(const LinearHead& start, const SparseCodes& codes, std::span<const int> y, const NeighbourIds& neighbours,
           const SparseCodes& queries, const MaskTraining& training) {
  const auto require = [](bool holds, const std::string& problem) {
    if (!holds) throw Error(ErrorCode::bad_input, "masks: " + problem);
  };
  require(y.size() == codes.rows(), fmt::format("{} labels for {} codes", y.size(), codes.rows()));
  require(neighbours.queries() == queries.rows(),
          fmt::format("neighbours of {} queries; there are {}", neighbours.queries(), queries.rows()));
  for (const int64_t id : neighbours.ids)
    require(id >= 0 && static_cast<size_t>(id) < codes.rows(), fmt::format("neighbour {} is none of the points", id));
  for (const int label : y)
    require(label >= 0 && static_cast<size_t>(label) < start.classes(), fmt::format("label {} is no class", label));
  for (const SparseCodes* one : {&codes, &queries})
    for (size_t i = 0; i < one->rows(); ++i)
      for (const uint32_t feature : one->row_features(i))
        require(feature < start.dimension(),
                fmt::format("the head has {} concepts; a code has concept {}", start.dimension(), feature));
  require(training.steps >= 0, fmt::format("{} steps", training.steps));
  for (const float number : {training.learning_rate, training.mask_learning_rate, training.sparsity})
    require(std::isfinite(number) && number >= 0, "learning rates and sparsity are numbers of at least 0");
}

}  // namespace

std::string_view name(Mask mask) {
  return mask == Mask::learned ? "learned" : mask == Mask::of_query ? "of_query" : "none";
}

MaskLoss::MaskLoss(size_t classes, size_t active, bool of_mask)
    : weights(classes, active), bias(classes), mask(of_mask ? active : 0) {}

double MaskLoss::differentiate(const LinearHead& head, ConstMatrixView codes, std::span<const int> y,
                               std::span<const float> m, float sparsity) {
  const size_t k = codes.rows, a = codes.cols, classes = head.classes();
  if (masked_.rows() != k || masked_.cols() != a) {
    masked_ = Matrix(k, a);
    logits_ = Matrix(k, classes);
    d_masked_ = Matrix(1, a);
  }
  for (size_t i = 0; i < k; ++i) std::ranges::transform(codes.row(i), m, masked_.row(i).begin(), std::multiplies<>());
  std::fill_n(weights.data(), weights.size(), 0.0F);
  std::ranges::fill(bias, 0.0F);
  std::ranges::fill(mask, a == 0 ? 0.0F : sparsity / static_cast<float>(a));
  double loss = 0;
  right = 0;
  const float share = 1 / static_cast<float>(k);
  for (size_t i = 0; i < k; ++i) {
    const std::span<float> z = logits_.row(i);
    for (size_t c = 0; c < classes; ++c) z[c] = inner_product(masked_.row(i), head.weights.row(c)) + head.bias[c];
    const auto truth = static_cast<size_t>(y[i]);
    const float largest = *std::ranges::max_element(z), of_truth = z[truth];
    right += of_truth == largest;
    double sum = 0;
    for (float& value : z) sum += value = std::exp(value - largest);
    loss += share * (std::log(sum) + largest - of_truth);
    for (float& value : z) value = flushed(value / static_cast<float>(sum)) * share;
    z[truth] -= share;
    for (size_t c = 0; c < classes; ++c) {
      add_scaled(z[c], masked_.row(i), weights.row(c));
      bias[c] += z[c];
    }
    if (mask.empty()) continue;
    const std::span<float> d_row = d_masked_.row(0);
    std::ranges::fill(d_row, 0.0F);
    for (size_t c = 0; c < classes; ++c) add_scaled(z[c], head.weights.row(c), d_row);
    for (size_t j = 0; j < a; ++j) mask[j] += d_row[j] * codes.row(i)[j];
  }
  double kept = 0;
  for (const float value : m) kept += value;
  return a == 0 ? loss : loss + sparsity * kept / static_cast<double>(a);
}

MaskedAnswers masked_answers(const LinearHead& start, const SparseCodes& codes, std::span<const int> y,
                             const NeighbourIds& neighbours, const SparseCodes& queries, const MaskTraining& training,
                             const Watch& watch) {
  check(start, codes, y, neighbours, queries, training);
  const size_t count = queries.rows();
  MaskedAnswers answers{Matrix(count, start.classes()), std::vector<uint32_t>(count), std::vector<uint32_t>(count),
                        std::vector<double>(count)};
  parallel_for(count, [&](size_t q) {
    watch.cancel.check();
    const std::span<const int64_t> ids = neighbours.of(q);
    const std::vector<uint32_t> active = active_concepts(codes, ids);
    const auto own = queries.row_features(q);
    Neighbourhood local = neighbourhood(
        start, codes, y, ids, training.mask == Mask::of_query ? std::vector<uint32_t>(own.begin(), own.end()) : active);
    MaskLoss loss(start.classes(), local.concepts.size(), training.mask == Mask::learned);
    const std::vector<float> mask = train(local, training, loss, watch.cancel);
    loss.differentiate(local.head, local.codes, local.y, mask, training.sparsity);
    std::vector<float> query(local.concepts.size());
    spread(local.concepts, own, queries.row_values(q), query);
    std::ranges::transform(query, mask, query.begin(), std::multiplies<>());
    for (size_t c = 0; c < start.classes(); ++c)
      answers.logits.row(q)[c] = inner_product(query, local.head.weights.row(c)) + local.head.bias[c];
    answers.active[q] = static_cast<uint32_t>(active.size());
    answers.kept[q] = static_cast<uint32_t>(std::ranges::count(mask, 1.0F));
    answers.own_accuracy[q] = static_cast<double>(loss.right) / static_cast<double>(ids.size());
  });
  return answers;
}

Matrix dense_codes(const SparseCodes& codes, size_t features) {
  Matrix rows(codes.rows(), features);
  for (size_t i = 0; i < codes.rows(); ++i)
    for (size_t j = 0; j < codes.counts[i]; ++j) {
      const uint32_t feature = codes.row_features(i)[j];
      if (feature >= features)
        throw Error(ErrorCode::bad_input, fmt::format("codes: row {} has feature {} of {}", i, feature, features));
      rows.row(i)[feature] = codes.row_values(i)[j];
    }
  return rows;
}

}  // namespace hone
