#include "lab/image_answers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace hone::lab {
namespace {

size_t right(std::span<const int> answers, std::span<const int> truth) {
  size_t count = 0;
  for (size_t i = 0; i < truth.size(); ++i) count += answers[i] == truth[i];
  return count;
}

size_t right_votes(std::span<const int> y, const Neighbours& neighbours, size_t votes, std::span<const int> truth,
                   size_t classes) {
  size_t count = 0;
  for (size_t i = 0; i < truth.size(); ++i)
    count += majority(y, neighbours.ids_of(i).first(votes), classes) == truth[i];
  return count;
}

}  // namespace

LocalProtocol LocalProtocol::from(const Json& parameters) {
  const Json& local = parameters.at("local");
  LocalProtocol protocol{local.at("neighbours"), {}, parameters.at("votes")};
  protocol.training.steps = local.at("epochs");
  protocol.training.learning_rate = local.at("learning_rate");
  return protocol;
}

int majority(std::span<const int> y, std::span<const int64_t> neighbours, size_t classes) {
  std::vector<size_t> votes(classes);
  for (const int64_t id : neighbours) ++votes[static_cast<size_t>(y[static_cast<size_t>(id)])];
  const size_t most = *std::ranges::max_element(votes);
  for (const int64_t id : neighbours) {
    const int label = y[static_cast<size_t>(id)];
    if (votes[static_cast<size_t>(label)] == most) return label;
  }
  return 0;
}

std::vector<int> predictions(ConstMatrixView logits) {
  std::vector<int> result;
  for (size_t i = 0; i < logits.rows; ++i) {
    const auto row = logits.row(i);
    result.push_back(static_cast<int>(std::ranges::max_element(row) - row.begin()));
  }
  return result;
}

double mean_log_loss(ConstMatrixView logits, std::span<const int> truth) {
  double total = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    const auto row = logits.row(i);
    const double most = *std::ranges::max_element(row);
    double sum = 0;
    for (const float logit : row) sum += std::exp(logit - most);
    total += most + std::log(sum) - row[static_cast<size_t>(truth[i])];
  }
  return total / static_cast<double>(truth.size());
}

void AnswerCounts::add(const AnswerCounts& other) {
  const auto weight = static_cast<double>(queries), more = static_cast<double>(other.queries);
  global_loss = (weight * global_loss + more * other.global_loss) / (weight + more);
  local_loss = (weight * local_loss + more * other.local_loss) / (weight + more);
  queries += other.queries;
  global += other.global;
  local += other.local;
  vote += other.vote;
  vote_same += other.vote_same;
  mended += other.mended;
  broken += other.broken;
}

AnswerCounts compare_answers(ConstMatrixView global, ConstMatrixView local, std::span<const int> truth) {
  const std::vector<int> before = predictions(global), after = predictions(local);
  AnswerCounts counts;
  counts.queries = truth.size();
  counts.global = right(before, truth);
  counts.local = right(after, truth);
  for (size_t i = 0; i < truth.size(); ++i) {
    counts.mended += before[i] != truth[i] && after[i] == truth[i];
    counts.broken += before[i] == truth[i] && after[i] != truth[i];
  }
  counts.global_loss = mean_log_loss(global, truth);
  counts.local_loss = mean_log_loss(local, truth);
  return counts;
}

AnswerCounts count_answers(const LinearHead& start, ConstMatrixView x, std::span<const int> y, ConstMatrixView queries,
                           std::span<const int> truth, const Neighbours& neighbours, const LocalProtocol& protocol,
                           const Watch& watch) {
  const Neighbours nearest = neighbours.nearest(protocol.neighbours);
  const LocalAnswers answers = local_answers(start, x, y, nearest.view(), queries, protocol.training, false, watch);
  AnswerCounts counts = compare_answers(start.logits(queries), answers.logits.back(), truth);
  counts.vote = right_votes(y, neighbours, protocol.votes, truth, start.classes());
  counts.vote_same = right_votes(y, neighbours, protocol.neighbours, truth, start.classes());
  return counts;
}

AnswerCounts count_answers(const LinearHead& start, ConstMatrixView x, std::span<const int> y, ConstMatrixView queries,
                           std::span<const int> truth, const LocalProtocol& protocol, const Watch& watch) {
  const Neighbours neighbours =
      NeighbourIndex::build(x, {}, watch).search(queries, std::max(protocol.neighbours, protocol.votes), watch);
  return count_answers(start, x, y, queries, truth, neighbours, protocol, watch);
}

std::vector<std::string> answer_columns() {
  return {"queries", "global", "local", "vote", "vote_same", "mended", "broken", "global_loss", "local_loss"};
}

void append(Row& row, const AnswerCounts& counts) {
  for (const size_t count :
       {counts.queries, counts.global, counts.local, counts.vote, counts.vote_same, counts.mended, counts.broken})
    row.emplace_back(static_cast<int64_t>(count));
  row.emplace_back(counts.global_loss);
  row.emplace_back(counts.local_loss);
}

AnswerCounts read_answers(const Table& rows, size_t row) {
  const auto count = [&](std::string_view column) { return rows.count(row, column); };
  return {count("queries"),
          count("global"),
          count("local"),
          count("vote"),
          count("vote_same"),
          count("mended"),
          count("broken"),
          rows.number(row, "global_loss"),
          rows.number(row, "local_loss")};
}

AnswerCounts read_answers(const Table& rows) {
  AnswerCounts counts;
  for (size_t row = 0; row < rows.rows(); ++row) counts.add(read_answers(rows, row));
  return counts;
}

Json to_json(const AnswerCounts& counts) {
  const auto share = [&](size_t count) { return static_cast<double>(count) / static_cast<double>(counts.queries); };
  const decide::Interval points = gain(counts);
  return {{"queries", counts.queries},
          {"global", share(counts.global)},
          {"ttt", share(counts.local)},
          {"majority", share(counts.vote)},
          {"majority_same_k", share(counts.vote_same)},
          {"gain_points", points.mean},
          {"gain_points_ci", {points.low, points.high}},
          {"log_loss_global", counts.global_loss},
          {"log_loss_ttt", counts.local_loss}};
}

std::string accuracy_text(size_t right, size_t queries) {
  const decide::Interval share = share_interval(right, queries);
  return fmt::format("{:.2f} [{:.2f}, {:.2f}]", 100 * share.mean, 100 * share.low, 100 * share.high);
}

decide::Interval gain(const AnswerCounts& counts) {
  const auto n = static_cast<double>(counts.queries);
  const auto mended = static_cast<double>(counts.mended), broken = static_cast<double>(counts.broken);
  const double mean = (mended - broken) / n;
  const double error = std::sqrt(std::max(0.0, (mended + broken) / n - mean * mean) / n);
  constexpr double normal_quantile = 1.96;
  return {100 * mean, 100 * (mean - normal_quantile * error), 100 * (mean + normal_quantile * error)};
}

std::string gain_text(const AnswerCounts& counts) {
  const decide::Interval points = gain(counts);
  return fmt::format("{:+.2f} [{:.2f}, {:.2f}]", points.mean, points.low, points.high);
}

void push(Series& series, double x, const decide::Interval& share) {
  series.x.push_back(x);
  series.y.push_back(100 * share.mean);
  series.low.push_back(100 * share.low);
  series.high.push_back(100 * share.high);
}

std::vector<std::string> answer_header() {
  return {"queries",     "global, %",           "TTT, %",           "gain, points",
          "majority, %", "majority, same k, %", "log-loss, global", "log-loss, TTT"};
}

std::vector<std::string> answer_cells(const AnswerCounts& counts) {
  return {fmt::format("{}", counts.queries),           accuracy_text(counts.global, counts.queries),
          accuracy_text(counts.local, counts.queries), gain_text(counts),
          accuracy_text(counts.vote, counts.queries),  accuracy_text(counts.vote_same, counts.queries),
          fmt::format("{:.4f}", counts.global_loss),   fmt::format("{:.4f}", counts.local_loss)};
}

}  // namespace hone::lab
