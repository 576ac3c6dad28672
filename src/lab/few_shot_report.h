// Scores of few-shot answers with known labels: what rows.csv holds of each query, and the page made of it.
#pragma once

#include "lab/experiment.h"
#include "lab/few_shot_draws.h"

namespace hone::lab {

// Of every query: what each method answers and how sure it is, the decision, and how many bits the answer is worse
// than in-context for the label where it is worst.
std::vector<std::string> few_shot_columns();
Row few_shot_row(size_t query, const FewShotDraw& draw, const FewShotAnswer& answer);

// Accuracy, log-loss, squared error and calibration of every method; each minus in-context with queries and with draws
// as what is resampled; the bound.
Report few_shot_report(const Table& rows);

}  // namespace hone::lab
