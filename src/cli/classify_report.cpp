#include "cli/classify_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/files.h"
#include "base/rounding.h"
#include "cli/options.h"

namespace hone::cli {

using nlohmann::json;

namespace {

json to_json(const decide::Interval& interval) { return json::array({interval.mean, interval.low, interval.high}); }

}  // namespace

nlohmann::json classify_json(const Classification& result, const std::vector<ClassifyScore>& scores,
                             const Queries& queries) {
  const auto locality = [](const decide::Interval& accuracy, const decide::Interval& log_loss) {
    return json{{"accuracy", accuracy.mean},
                {"accuracy_interval", {accuracy.low, accuracy.high}},
                {"log_loss", log_loss.mean},
                {"log_loss_interval", {log_loss.low, log_loss.high}}};
  };
  json rows = json::array();
  for (const ClassifyScore& score : scores)
    rows.push_back({{"name", score.name},
                    {"accuracy", score.accuracy.mean},
                    {"accuracy_interval", {score.accuracy.low, score.accuracy.high}},
                    {"log_loss", score.log_loss.mean},
                    {"log_loss_interval", {score.log_loss.low, score.log_loss.high}},
                    {"ece", score.calibration_error},
                    {"accuracy_gain", to_json(score.accuracy_gain)},
                    {"log_loss_gain", to_json(score.log_loss_gain)},
                    {"worst_bits", std::isfinite(score.worst_bits) ? json(score.worst_bits) : json(nullptr)},
                    {"queries_per_s", score.queries_per_second}});
  return {{"rows", rows},
          {"queries", queries.truth.size()},
          {"ignored", queries.ignored},
          {"locality",
           {{"own_neighbourhood", locality(result.own_accuracy, result.own_log_loss)},
            {"used_globally", locality(result.elsewhere_accuracy, result.elsewhere_log_loss)}}},
          {"votes", {{"majority", result.majority_votes}, {"by_distance", result.distance_votes}}},
          {"bound_bits", result.prior.bound_bits()},
          {"checkpoints", result.checkpoints},
          {"prior", result.prior.weights},
          {"trust", result.prior.trust},
          {"pseudo_queries", result.prior.pseudo_queries},
          {"ridge", result.ridge},
          {"fit_seconds", result.fit_seconds}};
}

void print_classify_table(const ClassifyOptions& options, const Classification& result,
                          const std::vector<ClassifyScore>& scores, const Queries& queries) {
  const auto percent = [](const decide::Interval& share) {
    return fmt::format("{:.2f} [{:.2f}, {:.2f}]", 100 * share.mean, 100 * share.low, 100 * share.high);
  };
  const auto nats = [](const decide::Interval& loss) {
    return fmt::format("{:.4f} [{:.4f}, {:.4f}]", loss.mean, loss.low, loss.high);
  };
  fmt::print("{:<32} {:>24} {:>24} {:>6} {:>10}\n", "", "accuracy, %", "log-loss, nats", "ECE", "queries/s");
  for (const ClassifyScore& score : scores)
    fmt::print("{:<32} {:>24} {:>24} {:>6.3f} {:>10.0f}\n", score.name, percent(score.accuracy), nats(score.log_loss),
               score.calibration_error, score.queries_per_second);
  fmt::print("{:<32} {:>24} {:>24}\n", "local, own neighbourhood", percent(result.own_accuracy),
             nats(result.own_log_loss));
  fmt::print("{:<32} {:>24} {:>24}\n", "local, used globally", percent(result.elsewhere_accuracy),
             nats(result.elsewhere_log_loss));
  fmt::print("\nminus global, paired\n");
  for (size_t i = 1; i < scores.size(); ++i)
    fmt::print("{:<32} {:>24} {:>24}   worst answer {:+.2f} bits\n", scores[i].name,
               fmt::format("{:+.2f} [{:+.2f}, {:+.2f}]", 100 * scores[i].accuracy_gain.mean,
                           100 * scores[i].accuracy_gain.low, 100 * scores[i].accuracy_gain.high),
               fmt::format("{:+.4f} [{:+.4f}, {:+.4f}]", scores[i].log_loss_gain.mean, scores[i].log_loss_gain.low,
                           scores[i].log_loss_gain.high),
               scores[i].worst_bits);
  fmt::print(
      "\nhone: steps {} weighed {}, neighbours trusted {}; no answer costs more than {} bits over global\n",
      fmt::join(result.checkpoints, " "),
      [&] {
        std::string text;
        for (const double weight : result.prior.weights)
          text += fmt::format("{}{:.2f}", text.empty() ? "" : " ", weight);
        return text;
      }(),
      result.prior.trust, rounded_up(result.prior.bound_bits(), 2));
  for (const ClassifyScore& score : scores)
    if (std::isinf(score.log_loss.mean))
      fmt::print("{}: heads diverged, and are counted as wrong; give a smaller --learning-rate or fewer --steps\n",
                 score.name);
  if (queries.ignored > 0) fmt::print("{} test rows were left out: no training row has their label\n", queries.ignored);
  fmt::print("{} queries, {} neighbours ({}, {}), {} steps, {} and {} votes, ridge {:g}; {:.1f} s beforehand\n",
             queries.truth.size(), options.neighbours, name(options.index.metric), name(options.index.kind),
             options.training.steps, result.majority_votes, result.distance_votes, result.ridge, result.fit_seconds);
}

void write_predictions(const std::filesystem::path& path, const Classification& result, const Queries& queries,
                       std::span<const std::string> labels) {
  const auto quoted = [](const std::string& text) {
    std::string field = "\"";
    for (const char c : text) field += c == '"' ? std::string("\"\"") : std::string(1, c);
    return field + '"';
  };
  std::string lines = "row,label";
  for (const Answers& way : result.answers)
    lines += "," + (way.name.find(',') == std::string::npos ? way.name : quoted(way.name));
  const Answers* hone = nullptr;
  for (const Answers& way : result.answers)
    if (way.name == "hone") hone = &way;
  for (const std::string& label : labels) lines += "," + quoted("p(" + label + ")");
  lines += '\n';
  for (size_t q = 0; q < queries.rows.size(); ++q) {
    lines += fmt::format("{},{}", queries.rows[q], quoted(labels[static_cast<size_t>(queries.truth[q])]));
    for (const Answers& way : result.answers) {
      const auto row = way.log_probabilities.row(q);
      const bool sound = std::ranges::all_of(row, [](float log_p) { return std::isfinite(log_p); });
      lines += "," + (sound ? quoted(labels[static_cast<size_t>(std::ranges::max_element(row) - row.begin())]) : "");
    }
    for (const float log_p : hone->log_probabilities.row(q)) lines += fmt::format(",{:.6g}", std::exp(log_p));
    lines += '\n';
  }
  write_file_atomically(path, lines);
}

}  // namespace hone::cli
