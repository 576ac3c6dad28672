// classify: every way to answer queries from labelled points, on the same neighbours: one global head, votes, a local
// head for each query ([SaG]), hone's mixture over how far that head was trained, experts; and what each is worth.
// Functions use the one thread pool: one thread calls them at a time.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "hone/base.h"
#include "hone/decide.h"
#include "hone/heads.h"
#include "hone/neighbours.h"

namespace hone {

struct ClassifyOptions {
  HeadFit head;  // of the global head
  // Where there are several, the head's ridge is the one of them that choose_ridge() finds.
  std::vector<double> ridges = {1e-7, 1e-6, 1e-5, 1e-4, 1e-3};
  // Fit it by `adam` instead; the cross-fitted heads that teach the prior stay those of `head`.
  bool published_head = false;
  AdamFit adam;            // the published way
  NeighbourOptions index;  // metric and kind
  size_t neighbours = 50;  // k of the local heads
  // k of both votes; 0: for each vote the one of 1, 5, 10, 20, 50 and 100 that is right about most pseudo-queries.
  size_t votes = 0;
  size_t sift_pool = 0;          // > 0: the k are re-chosen among so many nearest points by SIFT
  double sift_noise = 0.01;      // λ
  LocalTraining training;        // empty checkpoints: 0, 1, 2, 5, 10, 20, 50, … up to training.steps
  int folds = 5;                 // of the cross-fitted heads that the prior over checkpoints is learned with
  size_t pseudo_queries = 1000;  // at most so many training points teach that prior and the votes' k
  double floor = 0.05;           // the base's least weight
  size_t experts = 0;            // > 0: also so many experts
  // Asked instead of new ones; of the points' dimension and classes. Outlives the call.
  const Experts* known_experts = nullptr;
  size_t locality_queries = 100;  // so many queries' heads, drawn at random, are asked about other points
  uint64_t seed = 0;
};

// What one way says of every query.
struct Answers {
  std::string name;          // "global", "majority vote", ...
  Matrix log_probabilities;  // [Q, C], natural logarithm
  double seconds = 0;        // for all queries, search included
};

struct Classification {
  // "global"; "majority vote" and "distance-weighted vote" of their own k; "majority vote, local k" and
  // "distance-weighted vote, local k" of the neighbours that teach a local head; "local" (the end of the path: the
  // published protocol); "hone" (the mixture); "experts" if asked for.
  std::vector<Answers> answers;
  // Accuracy and −log p, in nats, of the local heads of `locality_queries` queries off their query: on the k points
  // that each was trained on, and on all queries. Means over heads with 95 % bootstraps over heads; 0 for no heads.
  decide::Interval own_accuracy, own_log_loss;
  decide::Interval elsewhere_accuracy, elsewhere_log_loss;
  double ridge = 0;                               // of the global head
  size_t majority_votes = 0, distance_votes = 0;  // k of the two votes
  std::vector<int> checkpoints;
  CheckpointPrior prior;
  Matrix weights;                  // [Q, checkpoints] of the mixture
  std::optional<Experts> experts;  // those that were fitted
  double fit_seconds = 0;          // what is paid once: heads, index, prior, experts
};

// Points x [n, d] with y [n] in [0, classes), queries [Q, d] with their labels `truth` [Q] in [0, classes), which only
// the last of the two local heads' rows is told. Throws Error{bad_input} saying which option or row does not fit (k
// above n, one class, NaN), Error{cancelled}.
Classification classify(ConstMatrixView x, std::span<const int> y, size_t classes, ConstMatrixView queries,
                        std::span<const int> truth, const ClassifyOptions& options, const Watch& watch = {});

// What a way's answers are worth. Intervals are 95 %: Wilson's of the accuracy, otherwise bootstraps over queries. A
// query whose log probabilities are not finite, as those of a local head that diverged, is answered wrongly at infinite
// log-loss; then the mean is infinite.
struct ClassifyScore {
  std::string name;
  decide::Interval accuracy;       // share of queries
  decide::Interval log_loss;       // −log p(y | x*), nats
  double calibration_error = 0;    // expected, 15 bins of equal width
  decide::Interval accuracy_gain;  // minus the global head's, paired
  decide::Interval log_loss_gain;
  double worst_bits = 0;  // most that an answer's log-loss exceeds the global head's by, for any label
  double queries_per_second = 0;
};
// One a row of `answers`, whose first is the base of all differences. Throws Error{bad_input} for no queries, answers
// of other shapes than the first, labels that are no class; Error{cancelled}.
std::vector<ClassifyScore> score_answers(std::span<const Answers> answers, std::span<const int> truth,
                                         uint64_t seed = 0, const Watch& watch = {});

}  // namespace hone
