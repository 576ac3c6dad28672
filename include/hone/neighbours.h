// neighbours: the training points that are nearest to a query, a choice among them that leaves the least uncertainty
// (SIFT), k-means, and experts, the local heads of a fixed number of places. Local heads themselves are heads.h.
// Functions and methods use the one thread pool: one thread calls them at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "hone/base.h"
#include "hone/heads.h"

namespace hone {

enum class Metric {
  l2,      // the distance is ‖q − x‖², squared as in FAISS
  cosine,  // the distance is 1 − cos(q, x), rounded to about 1e-7; a row of zeros has cosine 0 with all
};

enum class IndexKind {
  flat,  // exact: every point is looked at
  ivf,   // inverted lists (FAISS): only points of the lists whose centroids are nearest to the query
  hnsw,  // a navigable graph (FAISS; Malkov & Yashunin 2018), walked from a fixed point towards the query
};
std::string_view name(Metric metric);   // "l2", "cosine"
std::string_view name(IndexKind kind);  // "flat", "ivf", "hnsw"
Metric metric_named(std::string_view);  // throws Error{bad_input} that lists the names
IndexKind index_kind_named(std::string_view);

struct NeighbourOptions {
  IndexKind kind = IndexKind::flat;
  Metric metric = Metric::l2;
  size_t lists = 0;   // ivf: lists; 0: about 4·√n
  size_t links = 32;  // hnsw: of a point, at every level of the graph; twice as many at the lowest
  // Lists that are searched (ivf), or points that the walk keeps (hnsw, efSearch). 0: doubled from 1 (ivf) or 51 until
  // a sample of the points finds `recall` of its 50 nearest others.
  size_t effort = 0;
  double recall = 0.99;
  uint64_t seed = 0;  // of the sample and of the lists' k-means
};

// The k nearest points of Q queries, nearest first; ties by id. A query that has fewer (ivf and hnsw only) ends in ids
// −1 at distance infinity.
struct Neighbours {
  size_t k = 0;
  std::vector<int64_t> ids;      // [Q, k]: rows of the indexed points
  std::vector<float> distances;  // [Q, k]

  size_t queries() const { return k == 0 ? 0 : ids.size() / k; }
  std::span<const int64_t> ids_of(size_t query) const { return std::span(ids).subspan(query * k, k); }
  std::span<const float> distances_of(size_t query) const { return std::span(distances).subspan(query * k, k); }
  // The first `count` of every query.
  Neighbours nearest(size_t count) const;
  // As heads.h takes them; refers to `ids`.
  NeighbourIds view() const { return {ids, k}; }
};

// Points [n, d] in memory, searched by distance. Immutable; search() may be called by one thread at a time.
class NeighbourIndex {
 public:
  // Copies the points; flat keeps a byte for every value beside them. The same points, options and seed make the same
  // flat or ivf index whatever the number of threads; the graph of hnsw depends on which thread is faster. Throws
  // Error{bad_input} for no points, for one that is not finite (its row is named) and for options that do not fit,
  // Error{unsupported} for more points than an index holds or what FAISS cannot do, Error{cancelled}.
  static NeighbourIndex build(ConstMatrixView points, const NeighbourOptions& options = {}, const Watch& watch = {});
  NeighbourIndex(NeighbourIndex&&) noexcept;
  NeighbourIndex& operator=(NeighbourIndex&&) noexcept;
  ~NeighbourIndex();

  size_t size() const;       // n
  size_t dimension() const;  // d
  // As built: lists and effort are set, and recall is what the sample has, where effort was 0.
  const NeighbourOptions& options() const;

  // [n, d] as they are compared, at length 1 if the metric is the cosine; flat only, otherwise empty.
  ConstMatrixView points() const;

  // For queries [Q, d]. Exact if flat: candidates come from products of bytes or in fp32 whose rounding error is
  // bounded, their distances are computed anew from differences in fp64, and a query whose candidates the bound cannot
  // tell from the others is compared with every point that way. A query's result depends neither on the other queries
  // nor on the number of threads. Memory beside the result is for candidates, several times k of them for each of up to
  // 1 536 queries at a time: a few MB at k = 50, in proportion to k. `effort` other than 0 overrides the index's.
  // Throws Error{bad_input} for another dimension, k = 0 or k > n, or a query that is not finite; Error{cancelled}.
  Neighbours search(ConstMatrixView queries, size_t k, const Watch& watch = {}, size_t effort = 0) const;

  // One file with a checksum over all of it. Writing is atomic. Throws Error{not_found, io}; opening
  // throws Error{not_found, corrupt, unsupported, io}; both name the file.
  void save(const std::filesystem::path& path) const;
  static NeighbourIndex open(const std::filesystem::path& path);

 private:
  struct Impl;
  explicit NeighbourIndex(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Lloyd's k-means from `count` points drawn at random, k-means++ being as slow as the rest; an emptied centroid takes
// the point that is farthest from its own. Centroids [count, d]; with Metric::cosine points and centroids are brought
// to length 1 (spherical k-means). The same whatever the number of threads. Throws Error{bad_input} for count = 0 or
// count > n and for points that are not finite; Error{cancelled}.
Matrix kmeans(ConstMatrixView points, size_t count, Metric metric = Metric::l2, int iterations = 10, uint64_t seed = 0,
              const Watch& watch = {});

// ---- SIFT -----------------------------------------------------------------------------------------------------------
// Chooses points X for a query x* one after the other, each so that the posterior variance of a Gaussian process at x*,
//   σ²_X(x*) = k(x*, x*) − k_X(x*)ᵀ (K_X + λI)^{-1} k_X(x*),
// becomes as small as it can (Hübotter, Bongni, Hakimi & Krause, arXiv 2410.08020). Near duplicates of a chosen point
// tell little more and are passed over. λ → ∞ chooses by similarity alone.

struct SiftOptions {
  size_t count = 50;      // points to choose
  double noise = 0.01;    // λ
  bool repeats = false;   // a point may be chosen more than once
  bool normalize = true;  // k(x, x') is the cosine; otherwise the inner product
};

struct SiftChoice {
  std::vector<size_t> chosen;     // of the pool, in the order of choice; ties go to the earlier point
  std::vector<double> variances;  // [chosen + 1]: σ² at the query before and after each choice
};

// From a kernel that is already known: k(x*, x*), k(x*, x_j) [m], and k(x_i, x_j) [m, m]. O(m · count) a choice.
// Without repeats the choice ends when the pool does. Throws Error{bad_input} for shapes that do not fit, values that
// are not finite, noise ≤ 0.
SiftChoice sift(double query_variance, std::span<const float> query_covariance, ConstMatrixView covariance,
                const SiftOptions& options);
// From features: query [d], pool [m, d].
SiftChoice sift(std::span<const float> query, ConstMatrixView pool, const SiftOptions& options);

// Re-chooses options.count of every query's `pool` of neighbours (a few hundred). Ids and distances of the result stand
// in the order of choice, not of distance. `points` are those that the index was built from. Throws Error{bad_input}
// as above and for ids outside `points`, Error{cancelled}.
Neighbours sift(ConstMatrixView points, ConstMatrixView queries, const Neighbours& pool, const SiftOptions& options,
                const Watch& watch = {});

// ---- Experts --------------------------------------------------------------------------------------------------------
// Amortised test-time training ([SaG], Hübotter et al. 2025, arXiv 2509.24510), at a fixed cost a query: one local head
// for each of E centroids, trained beforehand on the centroid's k nearest training points (not on its cluster); a query
// is answered by the head of the nearest centroid.

struct ExpertOptions {
  size_t experts = 1000;   // E
  size_t neighbours = 50;  // k
  LocalTraining training;
  int iterations = 10;  // of k-means
  uint64_t seed = 0;
};

// Immutable; one thread at a time.
class Experts {
 public:
  // `index` holds x [n, d] and gives metric and neighbours. Throws Error{bad_input} for E or k of 0 or above n, for
  // what local_heads() refuses and for a head that diverged, Error{cancelled}.
  static Experts fit(const LinearHead& start, ConstMatrixView x, std::span<const int> y, const NeighbourIndex& index,
                     const ExpertOptions& options, const Watch& watch = {});

  size_t size() const { return centroids_.rows(); }       // E
  size_t dimension() const { return centroids_.cols(); }  // d
  size_t classes() const { return classes_; }             // C
  Metric metric() const { return metric_; }
  ConstMatrixView centroids() const { return centroids_; }  // [E, d]
  const std::vector<std::string>& labels() const { return labels_; }
  // A copy of one expert's head. expert < size(), which is not checked.
  LinearHead head(size_t expert) const;

  // The nearest centroid of every query [Q, d]. Throws Error{bad_input} for another dimension or a query that is not
  // finite, Error{cancelled}.
  std::vector<int64_t> route(ConstMatrixView queries, const Watch& watch = {}) const;
  // [Q, C]: each query's logits by its expert. Throws as route() does.
  Matrix logits(ConstMatrixView queries, const Watch& watch = {}) const;

  // One safetensors file: "centroids" [E, d], "weights" [E·C, d], "bias" [E, C], the metric and the classes' names
  // (`labels`: empty or C names). Writing is atomic. Throws Error{not_found, io, bad_input}; opening throws
  // Error{not_found, corrupt, unsupported, io} naming the file.
  void save(const std::filesystem::path& path, std::span<const std::string> labels = {}) const;
  static Experts open(const std::filesystem::path& path);

 private:
  Experts(Metric metric, Matrix centroids, Matrix weights, Matrix bias, std::vector<std::string> labels);

  Metric metric_ = Metric::l2;
  Matrix centroids_;  // [E, d]
  Matrix weights_;    // [E·C, d]
  Matrix bias_;       // [E, C]
  size_t classes_ = 0;
  std::vector<std::string> labels_;
  NeighbourIndex index_;  // of the centroids
};

}  // namespace hone
