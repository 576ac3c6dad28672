// heads: linear classifiers on frozen features. One global head, and for every query a local head that is trained on
// the query's neighbours, asked once and thrown away ([SaG], Hübotter et al. 2025, arXiv 2509.24510, test-time training
// of the last linear layer). Finding neighbours is neighbours.h, reading data is data.h.
// Functions and methods use the one thread pool: one thread calls them at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "hone/base.h"

namespace hone {

// logits = W x + b for C classes and d features.
struct LinearHead {
  Matrix weights;           // W [C, d]
  std::vector<float> bias;  // b [C]

  size_t classes() const { return weights.rows(); }
  size_t dimension() const { return weights.cols(); }
  LinearHead copy() const;
  // [n, C] for x [n, d]. Throws Error{bad_input} if x has other columns than the head.
  Matrix logits(ConstMatrixView x) const;
};

// One safetensors file: "weight" [C, d], "bias" [C], and the classes' names. Writing is atomic. `labels` is empty or
// holds C names. Throws Error{io, bad_input}; opening Error{not_found, corrupt, unsupported, io} naming the file.
void save_head(const std::filesystem::path& path, const LinearHead& head, std::span<const std::string> labels = {});
struct NamedHead {
  LinearHead head;
  std::vector<std::string> labels;
};
NamedHead open_head(const std::filesystem::path& path);

// log softmax of every row, in place.
void log_softmax(MatrixView logits);

// ---- The global head ------------------------------------------------------------------------------------------------
// All fits take x [n, d] and y [n] in [0, classes) and throw Error{bad_input} naming the row for NaN or infinite
// features, labels out of range, fewer than two classes or no rows at all, Error{cancelled} from the watch.

// Minimises (1/n) Σ_i −log softmax(W x_i + b)[y_i] + (ridge/2) ‖W‖², b free, by L-BFGS from 0, columns centred and
// scaled on the way. A fit that ends far from a minimum is Error{bad_input} too.
struct HeadFit {
  double ridge = 1e-4;
  int max_iterations = 500;
  double tolerance = 1e-5;  // times √(variance + ridge C²/(C − 1)) of its column: what a gradient's entry may be left
};
LinearHead fit_head(ConstMatrixView x, std::span<const int> y, size_t classes, const HeadFit& fit = {},
                    const Watch& watch = {});

// Of `candidates` the ridge whose head, fitted to four fifths of the points, has the least log-loss on the others; the
// fifth is drawn from the stream (seed, "ridge"). Throws as fit_head does, and Error{bad_input} for no candidates.
double choose_ridge(ConstMatrixView x, std::span<const int> y, size_t classes, std::span<const double> candidates,
                    const HeadFit& fit = {}, uint64_t seed = 0, const Watch& watch = {});

// The published way: Adam (β .9/.999, ε 1e-8) on mini-batches drawn anew every epoch without replacement, mean
// cross-entropy, no decay; starts as torch.nn.Linear does, uniform in ±1/√d, from the stream (seed, "head"). A head
// that diverged is Error{bad_input} too.
struct AdamFit {
  double learning_rate = 0.005;
  int epochs = 50;
  size_t batch = 400;
  uint64_t seed = 0;
};
LinearHead fit_head_adam(ConstMatrixView x, std::span<const int> y, size_t classes, const AdamFit& fit = {},
                         const Watch& watch = {});

// ---- Local heads ----------------------------------------------------------------------------------------------------

enum class LocalSolver {
  adam,   // the published protocol: full-batch Adam as torch.optim.Adam, fresh state, fixed learning rate
  lbfgs,  // second order, to the same objective plus the ridge; learning_rate is not used
};

// A local head minimises, over the k neighbours N(x*) of its query and from the start (W_0, b_0),
//   (1/k) Σ_{i ∈ N(x*)} −log softmax(W x_i + b)[y_i]  [ + (ridge/2) (‖W − W_0‖² + ‖b − b_0‖²), solver lbfgs only ].
struct LocalTraining {
  LocalSolver solver = LocalSolver::adam;
  int steps = 50;  // epochs of Adam, or at most so many iterations of L-BFGS
  float learning_rate = 0.01F;
  float ridge = 1e-3F;
  // Step counts, ascending, from 0 (the start itself) to `steps`, at which the query is answered; empty means {steps}.
  std::vector<int> checkpoints = {};
};

// The neighbours of Q queries as rows of x, nearest first: ids [Q, k]. −1 marks an absent one, as search returns it
// where there are too few points; a query without any keeps the start.
struct NeighbourIds {
  std::span<const int64_t> ids;
  size_t k = 0;

  size_t queries() const { return k == 0 ? 0 : ids.size() / k; }
  std::span<const int64_t> of(size_t query) const { return ids.subspan(query * k, k); }
};

// What the local heads of some queries say; entry j of a list belongs to checkpoint j.
struct LocalAnswers {
  std::vector<Matrix> logits;  // [checkpoints] of [Q, C]
  // [Q, checkpoints], only if asked for: Σ −log p(y_i | x_i) in nats over the query's neighbours, each predicted by a
  // head that was trained on the other half of them (even ranks predict odd ones and the other way round).
  Matrix left_out;
};

// Trains one local head a query, queries [Q, d], points x [n, d] with y [n] in [0, start.classes()). Every thread takes
// a query at a time; nothing is allocated a query. A query's answer depends neither on the other queries nor on the
// number of threads. With `left_out` the two halves' heads are trained too, about twice the work. Throws
// Error{bad_input} naming what is wrong: shapes, ids outside x, checkpoints, NaN; Error{cancelled}.
LocalAnswers local_answers(const LinearHead& start, ConstMatrixView x, std::span<const int> y,
                           const NeighbourIds& neighbours, ConstMatrixView queries, const LocalTraining& training,
                           bool left_out = false, const Watch& watch = {});

// The heads that `training` ends with, one for each row of `neighbours`; for experts that are kept. Checkpoints are not
// looked at. Throws as local_answers does.
std::vector<LinearHead> local_heads(const LinearHead& start, ConstMatrixView x, std::span<const int> y,
                                    const NeighbourIds& neighbours, const LocalTraining& training,
                                    const Watch& watch = {});

// ---- How far --------------------------------------------------------------------------------------------------------
// Checkpoints of a local head are experts, the start (checkpoint 0) is the base. A query is answered by
//   p(y | x*) = floor·p_0(y | x*) + (1 − floor) Σ_j w_j p_j(y | x*),   w_j ∝ prior_j · exp(−trust · left_out_j),
// so that whatever the heads say, −log2 p(y | x*) ≤ −log2 p_0(y | x*) + bound, bound = log2(1/floor) bits.
// Points that made a head are no evidence for it: left_out_j comes from neighbours that the head did not see, and prior
// and trust come from pseudo-queries, points of the training set whose own label took no part in any head they are
// answered with.

// Global heads that did not see a part of the points.
struct CrossFit {
  std::vector<LinearHead> heads;  // head f saw every point but those of fold f
  std::vector<int> fold;          // [n]: the fold of each point
};
// Folds are drawn from the stream (seed, "folds"), each class spread evenly over them; 2 ≤ folds ≤ n.
CrossFit cross_fit(ConstMatrixView x, std::span<const int> y, size_t classes, int folds, const HeadFit& fit = {},
                   uint64_t seed = 0, const Watch& watch = {});

struct CheckpointPrior {
  std::vector<double> weights = {};   // prior_j, sums to 1
  double trust = 0;                   // how much a neighbour's left-out log-loss counts
  double floor = 0;                   // in (0, 1]
  std::vector<double> log_loss = {};  // mean over the pseudo-queries of −log p_j, in nats
  double mixture_log_loss = 0;        // the same of the mixture
  size_t pseudo_queries = 0;

  // log2(1/floor): bits that an answer's log-loss can exceed the base's by, at most.
  double bound_bits() const;
};

// Chooses prior and trust that predict the pseudo-queries best. `pseudo` are rows of x, `neighbours` their neighbours
// among x, nearest first and more than `k` of them: a pseudo-query starts at the cross-fitted head that did not see its
// fold, and of its neighbours the k nearest outside its fold are used, which that head did see, as at a true query.
// For every trust of a fixed grid the prior maximises the log-likelihood of the mixture (EM). training.checkpoints must
// begin with 0. Throws Error{bad_input, cancelled}.
CheckpointPrior checkpoint_prior(const CrossFit& cross, ConstMatrixView x, std::span<const int> y,
                                 std::span<const int64_t> pseudo, const NeighbourIds& neighbours, size_t k,
                                 const LocalTraining& training, double floor = 0.05, const Watch& watch = {});

struct LocalMixture {
  Matrix log_probabilities;  // [Q, C] of p(y | x*), natural logarithm
  Matrix weights;            // [Q, checkpoints], floor included; a row sums to 1
  double bound_bits = 0;
};
// Mixes the answers' checkpoints; left_out is needed where prior.trust > 0. Throws Error{bad_input}.
LocalMixture mix_checkpoints(const LocalAnswers& answers, const CheckpointPrior& prior);

}  // namespace hone
