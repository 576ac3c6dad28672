// Features of labelled data, what an autoencoder makes of them, and its concepts.
#pragma once

#include <string>
#include <vector>

#include "hone/heads.h"
#include "hone/sae.h"
#include "lab/experiment.h"

namespace hone::lab {

// One of three views on the same points: features Ψ, their reconstruction Ψ̂, concept codes Φ̂ as dense rows.
struct ConceptView {
  Matrix train, test;  // [n, d], [Q, d]
  LinearHead head;     // fitted on `train`
};

struct ConceptSpace {
  std::vector<int> train_labels, test_labels;
  ConceptView features, again, concepts;
  SparseCodes train_codes, test_codes;
  SaeEvaluation evaluation;  // on the test points; dead_share on the points that the autoencoder was trained on
};

// For config.json: "spaces", each with its data's hashes, the autoencoder's settings and the local heads' protocol.
// Throws Error{not_found} that says what to install or to set.
Json concept_spaces_config(Size size);

// Space `index` of such a config: CLINC150 through MiniLM, or MNIST through the authors' network of width 192. The
// autoencoder is trained on the training points, for texts also on corpus_pieces(); vectors and autoencoders are kept
// below the cache directory, a training that was interrupted goes on. Throws Error{bad_input} if the data are not those
// that the run began with.
ConceptSpace make_concept_space(const Json& config, size_t index, const Watch& watch);

}  // namespace hone::lab
