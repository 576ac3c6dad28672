// What the global head, local heads and votes of neighbours answer on the same queries, and how a page says it.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "hone/decide.h"
#include "hone/heads.h"
#include "hone/neighbours.h"
#include "lab/experiment.h"

namespace hone::lab {

// [SaG]'s protocol: k exact L2 neighbours, full-batch Adam from the global head.
struct LocalProtocol {
  size_t neighbours;  // k
  LocalTraining training;
  size_t votes;  // k of majority vote

  // Of published_parameters().
  static LocalProtocol from(const Json& parameters);
};

// The label with most votes; of equal ones the one that comes first.
int majority(std::span<const int> y, std::span<const int64_t> neighbours, size_t classes);
std::vector<int> predictions(ConstMatrixView logits);
double mean_log_loss(ConstMatrixView logits, std::span<const int> truth);  // nats

// How many queries were answered rightly.
struct AnswerCounts {
  size_t queries = 0;
  size_t global = 0, local = 0;
  size_t vote = 0;                         // among protocol.votes neighbours
  size_t vote_same = 0;                    // among the neighbours of the local head
  size_t mended = 0, broken = 0;           // by the local head, of those that the global head gets wrong, right
  double global_loss = 0, local_loss = 0;  // mean −log p in nats

  void add(const AnswerCounts& other);
};
// Only what two sets of logits [Q, C] answer; no votes.
AnswerCounts compare_answers(ConstMatrixView global, ConstMatrixView local, std::span<const int> truth);
// `neighbours` are at least as many as the protocol asks for.
AnswerCounts count_answers(const LinearHead& start, ConstMatrixView x, std::span<const int> y, ConstMatrixView queries,
                           std::span<const int> truth, const Neighbours& neighbours, const LocalProtocol& protocol,
                           const Watch& watch);
// The same with its own search.
AnswerCounts count_answers(const LinearHead& start, ConstMatrixView x, std::span<const int> y, ConstMatrixView queries,
                           std::span<const int> truth, const LocalProtocol& protocol, const Watch& watch);

// Columns "queries" … "local_loss" of rows.csv.
std::vector<std::string> answer_columns();
void append(Row& row, const AnswerCounts& counts);
AnswerCounts read_answers(const Table& rows, size_t row);
// All rows of the table together.
AnswerCounts read_answers(const Table& rows);
Json to_json(const AnswerCounts& counts);

// Percentages: "91.21 [90.64, 91.75]", Wilson's interval.
std::string accuracy_text(size_t right, size_t queries);
// Points that the local head gains, with the 95 % interval of a paired difference (normal approximation).
decide::Interval gain(const AnswerCounts& counts);
std::string gain_text(const AnswerCounts& counts);
// A point of a line with error bars: percentages.
void push(Series& series, double x, const decide::Interval& share);
// "queries", "global", "TTT", "gain", "majority", "majority, same k", "log-loss, global", "log-loss, TTT".
std::vector<std::string> answer_header();
std::vector<std::string> answer_cells(const AnswerCounts& counts);

}  // namespace hone::lab
