// Gradients of a text's mean loss at the base weights, and how they are kept: preconditioned, four bits a value.
#pragma once

#include "hone/adapt.h"

namespace hone {

// BOS first where the model's file says that texts start with it.
std::vector<Token> with_bos(const Model& model, std::span<const Token> tokens);

// Runs `tokens` through the model and offers the gradient of the mean loss on tokens [first_target, n) to the sinks,
// for layers [first_layer, L). Returns that mean loss. `adapter` may be nullptr. `hidden` is the residual stream
// [tokens, D] below first_layer where it is known, or empty; it must have been computed without an adapter.
// `products` as in Model::backward(). Throws Error{corrupt} where the loss is not finite without an adapter.
float mean_loss_gradient(const Model& model, std::span<const Token> tokens, size_t first_target, int first_layer,
                         const Adapter* adapter, ConstMatrixView hidden, std::span<GradientSink* const> sinks,
                         const CancelToken& cancel, Precision products = Precision::fp32);

// The weight gradients ∂(mean loss)/∂W [out, in] of layers [first_layer, L).
std::map<MatrixId, Matrix> weight_gradients(const Model& model, std::span<const Token> tokens, size_t first_target,
                                            int first_layer, const CancelToken& cancel);

// A gradient row: for each matrix the preconditioner's row and column vectors, then G / D in blocks of 32 values of
// four bits with a bf16 scale. Names the codec in keys.
inline constexpr std::string_view gradient_codec = "q4b32";
// Room for the matrices of these statistics, each to be written by encode_gradient().
std::vector<std::byte> empty_gradient_row(const CorpusStatistics& statistics);
// Writes the gradient G [out, in] of one of the statistics' matrices to its place in the row.
void encode_gradient(MatrixId id, ConstMatrixView gradient, const CorpusStatistics& statistics,
                     std::span<std::byte> row);
// Whether the bytes are a gradient row for exactly the matrices of these statistics.
bool is_gradient_row(std::span<const std::byte> row, const CorpusStatistics& statistics);
// weight · Σ over rows of (the row's G) / D of one matrix [out, in], whatever statistics the rows were written with.
// Each of `rows` is a gradient row for the matrices of `statistics`, whose D this is.
Matrix sum_gradient_rows(std::span<const StoredRow> rows, const CorpusStatistics& statistics, MatrixId id,
                         float weight);

}  // namespace hone
