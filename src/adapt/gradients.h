// Gradients of a text's mean loss at the base weights, and how they are kept: preconditioned, four bits a value.
#pragma once

#include "hone/adapt.h"

namespace hone {

// BOS first where the model's file says that texts start with it.
std::vector<Token> with_bos(const Model& model, std::span<const Token> tokens);

// Runs `tokens` through the model and offers the gradient of the mean loss on tokens [first_target, n) to the sinks,
// for layers [first_layer, L). Returns that mean loss. `adapter` may be nullptr.
float mean_loss_gradient(const Model& model, std::span<const Token> tokens, size_t first_target, int first_layer,
                         const Adapter* adapter, std::span<GradientSink* const> sinks, const CancelToken& cancel);

// The weight gradients ∂(mean loss)/∂W [out, in] of layers [first_layer, L).
std::map<MatrixId, Matrix> weight_gradients(const Model& model, std::span<const Token> tokens, size_t first_target,
                                            int first_layer, const CancelToken& cancel);

// A gradient row: for each matrix the preconditioner's row and column vectors, then G / D in blocks of 32 values of
// four bits with a bf16 scale. Names the codec in keys.
inline constexpr std::string_view gradient_codec = "q4b32";
std::vector<std::byte> encode_gradient_row(const std::map<MatrixId, Matrix>& gradients,
                                           const CorpusStatistics& statistics);
// direction.dense[id] += weight · (the row's G) / D of `statistics`, whatever statistics the row was written with.
// False, with nothing added, if the bytes are not a row for exactly these matrices.
bool add_gradient_row(std::span<const std::byte> row, const CorpusStatistics& statistics, float weight,
                      Adapter& direction);

// A zero ΔW for every matrix of the statistics.
Adapter zero_direction(const CorpusStatistics& statistics);

}  // namespace hone
