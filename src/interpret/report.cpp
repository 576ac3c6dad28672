// A page that shows what features respond to.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "interpret/encode.h"
#include "model/utf8.h"

namespace hone {
namespace {

struct Example {
  float value;
  size_t row;
};
// Larger values first; of equal ones the earlier row.
bool before(const Example& a, const Example& b) { return a.value != b.value ? a.value > b.value : a.row < b.row; }

struct Usage {
  std::vector<uint64_t> firings;               // [S]
  std::vector<std::vector<Example>> examples;  // [S], the largest; while they are added, heaps with the smallest on top

  void add(uint32_t feature, const Example& example, size_t kept) {
    ++firings[feature];
    std::vector<Example>& best = examples[feature];
    best.push_back(example);
    std::ranges::push_heap(best, before);
    if (best.size() <= kept) return;
    std::ranges::pop_heap(best, before);
    best.pop_back();
  }
};

Usage read_usage(const Sae& sae, ActivationBatches& source, size_t examples, const Watch& watch) {
  Usage usage{std::vector<uint64_t>(sae.config.features), std::vector<std::vector<Example>>(sae.config.features)};
  for (size_t first = 0; first < source.rows(); first += rows_at_once) {
    watch.report("reading features", first, source.rows());
    Matrix raw = Matrix::uninitialized(std::min(rows_at_once, source.rows() - first), source.width());
    source.read_in_order(first, raw, watch.cancel);
    encode_in_blocks(sae, sae.inputs(raw), [&](size_t start, const SparseCodes& codes) {
      for (size_t i = 0; i < codes.rows(); ++i)
        for (size_t j = 0; j < codes.counts[i]; ++j)
          usage.add(codes.row_features(i)[j], {codes.row_values(i)[j], first + start + i}, examples);
    });
  }
  for (std::vector<Example>& best : usage.examples) std::ranges::sort(best, before);
  return usage;
}

// Evenly spaced among those that fire, most frequent first.
std::vector<uint32_t> features_shown(const Usage& usage, size_t count) {
  std::vector<uint32_t> living;
  for (uint32_t f = 0; f < usage.firings.size(); ++f)
    if (usage.firings[f] > 0) living.push_back(f);
  std::ranges::stable_sort(living, std::greater<>(), [&](uint32_t f) { return usage.firings[f]; });
  if (living.size() <= count) return living;
  std::vector<uint32_t> shown;
  for (size_t i = 0; i < count; ++i) shown.push_back(living[i * living.size() / count]);
  return shown;
}

std::string place_html(const ActivationBatches::Place& place) {
  return fmt::format("{}<mark>{}</mark>{}", escape_html(place.before), escape_html(place.itself),
                     escape_html(place.after));
}

std::string tokens_html(const Model& model, std::span<const float> logits, std::span<const Token> order, size_t count,
                        bool largest) {
  std::string html;
  for (size_t i = 0; i < std::min(count, order.size()); ++i) {
    const Token token = largest ? order[i] : order[order.size() - 1 - i];
    html += fmt::format("<code title=\"{:.2f}\">{}</code> ", logits[static_cast<size_t>(token)],
                        escape_html(model.tokenizer().piece(token)));
  }
  return html;
}

// Tokens that a decoder row makes more likely and less.
std::string lens_html(const Model& model, std::span<const float> direction, size_t count) {
  const Matrix logits = model.logits({direction.data(), 1, direction.size()});
  const std::span<const float> row = logits.row(0);
  // A model may have rows beyond its tokens.
  std::vector<Token> order(std::min(row.size(), model.tokenizer().vocabulary_size()));
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater<>(), [&](Token token) { return row[static_cast<size_t>(token)]; });
  return fmt::format("<p>more likely: {}</p>\n<p>less likely: {}</p>\n", tokens_html(model, row, order, count, true),
                     tokens_html(model, row, order, count, false));
}

constexpr std::string_view page_start = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{0}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
h2 {{ font-size: 1.05rem; margin: 2rem 0 .3rem; border-top: 1px solid #ccc; padding-top: .6rem; }}
p {{ margin: .2rem 0; }} ol {{ margin: .3rem 0; padding-left: 2.2rem; }}
li span {{ color: #777; font-variant-numeric: tabular-nums; margin-right: .6rem; }}
mark {{ background: #ffe08a; }} code {{ background: #f1f1f1; padding: 0 .25em; white-space: pre; }}
img {{ image-rendering: pixelated; width: 56px; vertical-align: middle; }}
</style></head><body>
<h1>{0}</h1>
<p>{1} features of {2} inputs, {3} active in a row; {4} rows read; {5} features fired in none of them.</p>
)";

}  // namespace

std::string escape_html(std::string_view text) {
  std::string html;
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text, at);
    switch (text[at]) {
      case '&': html += "&amp;"; break;
      case '<': html += "&lt;"; break;
      case '>': html += "&gt;"; break;
      case '"': html += "&quot;"; break;
      case '\'': html += "&#39;"; break;
      default: html += length > 0 ? text.substr(at, length) : "\uFFFD";
    }
    at += std::max<size_t>(length, 1);
  }
  return html;
}

std::string feature_report(const Sae& sae, ActivationBatches& source, const ReportOptions& options,
                           const Watch& watch) {
  if (options.lens && sae.config.inputs != static_cast<size_t>(options.lens->config().width))
    throw Error(ErrorCode::bad_input,
                fmt::format("logit lens: the autoencoder reads rows of {} values; {} has a width "
                            "of {}",
                            sae.config.inputs, options.lens->name(), options.lens->config().width));
  const Usage usage = read_usage(sae, source, options.examples, watch);
  const Matrix directions = sae.directions();
  const auto silent = std::ranges::count(usage.firings, uint64_t{0});
  std::string page = fmt::format(page_start, escape_html(options.title), sae.config.features, sae.config.inputs,
                                 sae.config.active, source.rows(), silent);
  const std::vector<uint32_t> shown = features_shown(usage, options.features);
  for (size_t i = 0; i < shown.size(); ++i) {
    watch.report("writing features", i, shown.size());
    const uint32_t feature = shown[i];
    page += fmt::format("<h2 id=\"f{0}\">Feature {0}</h2>\n<p>fires in {1:.3g} % of the rows</p>\n", feature,
                        100.0 * static_cast<double>(usage.firings[feature]) / static_cast<double>(source.rows()));
    if (options.lens) page += lens_html(*options.lens, directions.row(feature), options.tokens);
    page += "<ol>\n";
    for (const Example& example : usage.examples[feature])
      page += fmt::format("<li><span>{:.3f}</span>{}</li>\n", example.value,
                          options.show ? options.show(example.row) : place_html(source.place(example.row)));
    page += "</ol>\n";
  }
  return page + "</body></html>\n";
}

}  // namespace hone
