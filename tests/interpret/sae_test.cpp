// Sparse products, autoencoders and their trainer: formulas, torch, finite differences, runs that go on.
#include "hone/sae.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <set>

#include "base/files.h"
#include "base/random.h"
#include "hone/data.h"
#include "interpret/shuffle.h"
#include "interpret/sparse.h"
#include "model/safetensors.h"
#include "tests/expect_error.h"
#include "tests/golden.h"
#include "tests/small_sae.h"
#include "tests/temporary_folder.h"

namespace hone::sae_test {
namespace {

using test::normals;
using test::small_sae;
using test::TemporaryFolder;

// Small, with everything that matters switched on.
SaeTraining small_training() {
  return {.steps = 12,
          .batch = 24,
          .initial_active = 6,
          .annealing_steps = 6,
          .warmup_steps = 4,
          .dropout = 0.3F,
          .dead_below = 0.02,
          .auxiliary_active = 3,
          .seed = 3};
}

bool same_parameters(const Sae& a, const Sae& b) {
  return test::same_bits(a.encoder, b.encoder) && test::same_bits(a.decoder, b.decoder) &&
         a.encoder_bias == b.encoder_bias && a.decoder_bias == b.decoder_bias;
}

TEST(SelectLargest, EqualsSorting) {
  RandomStream random(1, "select");
  Selection selection;
  for (const size_t size : {1U, 5U, 17U, 64U, 100U, 1000U, 3072U, 3079U})
    for (const size_t k : {1U, 2U, 4U, 16U, 128U}) {
      if (k > size) continue;
      std::vector<float> values(size);
      for (float& value : values) value = static_cast<float>(random.below(size < 200 ? 20 : 1000000)) - 9;  // with ties
      std::vector<uint32_t> order(size);
      std::iota(order.begin(), order.end(), 0);
      std::ranges::stable_sort(order, [&](uint32_t a, uint32_t b) { return values[a] > values[b]; });
      order.resize(k);
      std::ranges::sort(order);
      select_largest(values, k, selection);
      EXPECT_EQ(selection.features, order) << size << " values, k " << k;
    }
}

TEST(SelectLargest, NeverTakesWhatIsNoNumber) {
  std::vector<float> values(500, NAN);
  values[77] = 1;
  values[400] = -2;
  Selection selection;
  select_largest(values, 16, selection);
  EXPECT_EQ(selection.features, (std::vector<uint32_t>{77, 400}));
}

TEST(SparseProducts, EqualSums) {
  for (const size_t cols : {1U, 7U, 16U, 130U, 384U}) {
    const Matrix rows = normals(20, cols, "rows"), x = normals(1, cols, "x");
    const std::vector<uint32_t> ids = {3, 0, 19};
    const std::vector<float> weights = {0.5F, -2, 3};
    std::vector<float> sum(cols, 1), products(3);
    add_rows(rows, ids, weights, sum);
    row_products(rows, ids, x.row(0), products);
    for (size_t c = 0; c < cols; ++c)
      EXPECT_NEAR(sum[c], 1 + 0.5 * rows.row(3)[c] - 2 * rows.row(0)[c] + 3 * rows.row(19)[c], 1e-5);
    for (size_t i = 0; i < 3; ++i) {
      double expected = 0;
      for (size_t c = 0; c < cols; ++c) expected += static_cast<double>(rows.row(ids[i])[c]) * x.row(0)[c];
      EXPECT_NEAR(products[i], expected, 1e-4);
    }
  }
}

TEST(DropOut, KeepsTheExpectedShareAndScalesIt) {
  constexpr size_t count = 100003;
  for (const float rate : {0.5F, 0.1F}) {
    std::vector<float> values(count, 3);
    RandomStream random(5, "dropout");
    drop_out(values, rate, random);
    size_t kept = 0;
    for (const float value : values) {
      if (value == 0) continue;
      ++kept;
      EXPECT_FLOAT_EQ(value, 3 / (1 - rate));
    }
    const double deviation = std::sqrt(count * static_cast<double>(rate) * (1 - rate));
    EXPECT_NEAR(static_cast<double>(kept), count * (1 - static_cast<double>(rate)), 4 * deviation);
  }
}

// x̂ and the kept features in double precision, one row at a time.
TEST(Sae, EncodesAndDecodesAsTheFormulaSays) {
  for (const bool pre_bias : {false, true})
    for (const bool relu : {false, true}) {
      const Sae sae = small_sae({.inputs = 9, .features = 40, .active = 30, .pre_bias = pre_bias, .relu = relu});
      const Matrix x = normals(31, 9, "x"), seen = sae.inputs(x);
      const SparseCodes codes = sae.encode(seen);
      const Matrix decoded = sae.decode(codes, sae.directions());
      for (size_t i = 0; i < x.rows(); ++i) {
        const double norm = test::norm(x.row(i));
        std::vector<std::pair<double, uint32_t>> values;
        for (uint32_t f = 0; f < 40; ++f) {
          double value = sae.encoder_bias[f];
          for (size_t j = 0; j < 9; ++j)
            value += (x.row(i)[j] / norm - (pre_bias ? sae.decoder_bias[j] : 0)) * sae.encoder.row(f)[j];
          values.emplace_back(value, f);
        }
        std::ranges::sort(values, std::greater<>());
        values.resize(30);
        std::vector<double> expected(sae.decoder_bias.begin(), sae.decoder_bias.end());
        std::set<uint32_t> kept;
        for (const auto& [value, f] : values) {
          if (relu && value <= 0) continue;
          kept.insert(f);
          for (size_t j = 0; j < 9; ++j) expected[j] += value * sae.decoder.row(f)[j] / test::norm(sae.decoder.row(f));
        }
        EXPECT_EQ(std::set<uint32_t>(codes.row_features(i).begin(), codes.row_features(i).end()), kept);
        for (size_t j = 0; j < 9; ++j) EXPECT_NEAR(decoded.row(i)[j], expected[j], 1e-5);
      }
    }
}

TEST(Sae, RowsDoNotDependOnTheirBatch) {
  const Sae sae = small_sae({.inputs = 33, .features = 300, .active = 7});
  const Matrix x = normals(1003, 33, "x");
  const Matrix all = sae.reconstruct(x);
  for (const size_t i : {0U, 479U, 480U, 1002U})
    EXPECT_TRUE(test::same_bits(sae.reconstruct(x.view().row_range(i, 1)), all.view().row_range(i, 1))) << i;
}

// Loss curve, gradient norms, dead features and parameters of torch's trainer (tests/golden/sae.py).
TEST(SaeTrainer, EqualsTorchForAHundredSteps) {
  const test::Golden golden("sae");
  for (const bool auxiliary : {false, true}) {
    const std::string run = auxiliary ? "auxiliary." : "ghost.";
    Sae start = Sae::create({.inputs = 16, .features = 64, .active = 4, .pre_bias = auxiliary}, 0);
    start.encoder = test::generated_matrix(900, 64, 16, 1);
    start.decoder = start.encoder.copy();
    const Matrix bias = test::generated_matrix(901, 1, 16, 0.1);
    std::ranges::copy(bias.row(0), start.decoder_bias.begin());
    SaeTrainer trainer(std::move(start), {.steps = 100,
                                          .batch = 64,
                                          .initial_active = 16,
                                          .annealing_steps = 60,
                                          .learning_rate = 1e-2F,
                                          .warmup_steps = 20,
                                          .dropout = 0,
                                          .clip = 0.02F,
                                          .revival = auxiliary ? Revival::auxiliary_k : Revival::ghost,
                                          .dead_below = 0.08,
                                          .auxiliary_active = 8});
    const auto losses = golden.list<double>(run + "losses"), revival = golden.list<double>(run + "revival_losses");
    const auto norms = golden.list<double>(run + "gradient_norms");
    const auto dead = golden.list<size_t>(run + "dead");
    for (size_t step = 0; step < 100; ++step) {
      const SaeStep report = trainer.step(test::generated_matrix(1000 + step, 64, 16, 2));
      EXPECT_NEAR(report.loss, losses[step], 1e-4 * losses[step]) << run << step;
      EXPECT_NEAR(report.revival_loss, revival[step], 1e-4 * revival[step]) << run << step;
      EXPECT_NEAR(report.gradient_norm, norms[step], 1e-4 * norms[step]) << run << step;
      EXPECT_EQ(report.dead, dead[step]) << run << step;
    }
    const Sae& end = trainer.sae();
    EXPECT_LT(test::relative_difference(end.encoder, golden.matrix(run + "encoder")), 1e-4);
    EXPECT_LT(test::relative_difference(end.decoder, golden.matrix(run + "decoder")), 1e-4);
    EXPECT_LT(test::largest_difference(end.encoder_bias, golden.list<float>(run + "encoder_bias")), 1e-4);
    EXPECT_LT(test::largest_difference(end.decoder_bias, golden.list<float>(run + "decoder_bias")), 1e-4);
  }
}

// (L(p + h) − L(p − h)) / 2h of every parameter for which `wanted` holds; the kept features do not change within ±h.
void compare_with_finite_differences(const Sae& sae, const SaeTraining& training, const Matrix& x,
                                     const std::function<bool(size_t feature)>& wanted, bool decoder_bias,
                                     const std::function<SaeTrainer(Sae)>& make) {
  constexpr float h = 2e-3F;
  SaeGradients gradients;
  make(sae.copy()).gradients(x, gradients);
  const auto loss = [&](const std::function<float&(Sae&)>& parameter, float change) {
    Sae changed = sae.copy();
    parameter(changed) += change;
    SaeGradients unused;
    const SaeStep report = make(std::move(changed)).gradients(x, unused);
    return report.loss + report.revival_loss;
  };
  double difference = 0, size = 0;
  const auto compare = [&](const std::function<float&(Sae&)>& parameter, float gradient) {
    const double expected = (loss(parameter, h) - loss(parameter, -h)) / (2 * static_cast<double>(h));
    difference += std::pow(expected - gradient, 2);
    size += std::pow(expected, 2);
  };
  for (size_t f = 0; f < sae.config.features; ++f) {
    if (!wanted(f)) continue;
    compare([&](Sae& s) -> float& { return s.encoder_bias[f]; }, gradients.encoder_bias[f]);
    for (size_t j = 0; j < sae.config.inputs; ++j) {
      compare([&](Sae& s) -> float& { return s.encoder.row(f)[j]; }, gradients.encoder.row(f)[j]);
      compare([&](Sae& s) -> float& { return s.decoder.row(f)[j]; }, gradients.decoder.row(f)[j]);
    }
  }
  if (decoder_bias)
    for (size_t j = 0; j < sae.config.inputs; ++j)
      compare([&](Sae& s) -> float& { return s.decoder_bias[j]; }, gradients.decoder_bias[j]);
  EXPECT_GT(size, 0);
  EXPECT_LT(std::sqrt(difference / size), 0.01) << "batch " << training.batch;
}

TEST(SaeTrainer, GradientsEqualFiniteDifferences) {
  for (const bool pre_bias : {false, true})
    for (const bool unit_rows : {false, true})
      for (const float dropout : {0.0F, 0.5F}) {
        const SaeConfig config{.inputs = 5, .features = 8, .active = 8, .unit_rows = unit_rows, .pre_bias = pre_bias};
        SaeTraining training = small_training();  // all features are kept, so that none leaves within ±h
        training.initial_active = 8;
        training.dropout = dropout;
        training.revival = Revival::none;
        const Sae sae = small_sae(config);
        compare_with_finite_differences(
            sae, training, normals(6, 5, "x"), [](size_t) { return true; }, true,
            [&](Sae start) { return SaeTrainer(std::move(start), training); });
      }
}

// A feature that never fires changes nothing but the revival loss.
TEST(SaeTrainer, RevivalGradientsEqualFiniteDifferences) {
  for (const Revival revival : {Revival::ghost, Revival::auxiliary_k}) {
    SaeTraining training = small_training();
    training.initial_active = 3;
    training.revival = revival;
    training.auxiliary_active = 4;  // all of the dead ones
    training.learning_rate = 1e-12F;
    Sae sae = small_sae({.inputs = 5, .features = 12, .active = 3});
    for (size_t f = 8; f < 12; ++f) sae.encoder_bias[f] = -5;
    const Matrix x = normals(6, 5, "x");
    compare_with_finite_differences(
        sae, training, x, [](size_t f) { return f >= 8; }, false,
        [&](Sae start) {
          SaeTrainer trainer(std::move(start), training);
          const SaeStep report = trainer.step(x);
          EXPECT_EQ(report.dead, 0U);
          return trainer;
        });
  }
}

TEST(SaeTrainer, KeepsUnitNormsAndLearns) {
  const Matrix x = normals(64, 12, "x");
  SaeTraining training = small_training();
  training.dropout = 0;
  training.learning_rate = 0.01F;
  SaeTrainer trainer(small_sae({.inputs = 12, .features = 48, .active = 3}), training);
  double first = 0, last = 0;
  for (size_t step = 0; step < 200; ++step) {
    last = trainer.step(x).loss;
    if (step == 8) first = last;  // k is at its end
  }
  EXPECT_LT(last, 0.5 * first);
  const Matrix directions = trainer.sae().directions();
  for (size_t f = 0; f < directions.rows(); ++f) EXPECT_NEAR(test::norm(directions.row(f)), 1, 1e-6);
}

TEST(SaeTrainer, DoesNotDependOnTheNumberOfThreads) {
  const int before = threads();
  const Matrix x = normals(100, 9, "x");
  std::vector<Sae> ends;
  for (const int count : {1, 3}) {
    set_threads(count);
    SaeTrainer trainer(small_sae(), small_training());
    for (size_t step = 0; step < 5; ++step) trainer.step(x);
    ends.push_back(trainer.sae().copy());
  }
  set_threads(before);
  EXPECT_TRUE(same_parameters(ends[0], ends[1]));
}

TEST(SaeTrainer, ARunThatGoesOnEndsWithTheSameBytes) {
  const TemporaryFolder folder;
  write_npy(folder.path() / "x.npy", normals(100, 9, "x"));
  for (const Revival revival : {Revival::ghost, Revival::auxiliary_k}) {
    SaeTraining training = small_training();
    training.revival = revival;
    const auto batches = open_activations(folder.path() / "x.npy", training.seed);
    SaeTrainer whole(small_sae(), training);
    whole.run(*batches, folder.path() / "whole", 0, {}, {});

    Watch watch;
    SaeTrainer part(small_sae(), training);
    const auto stop_after_five = [&](const SaeStep& report) {
      if (report.step == 5) watch.cancel.cancel();
    };
    HONE_EXPECT_ERROR(part.run(*batches, folder.path() / "part", 0, stop_after_five, watch), ErrorCode::cancelled, "");
    SaeTrainer rest = SaeTrainer::load(folder.path() / "part", batches->identity());
    EXPECT_EQ(rest.steps_done(), 5U);
    rest.run(*open_activations(folder.path() / "x.npy", training.seed), folder.path() / "part", 2, {}, {});
    EXPECT_EQ(read_file(folder.path() / "part"), read_file(folder.path() / "whole"));
  }
}

TEST(SaeTrainer, CheckpointsThatAreDamagedAreRefused) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "checkpoint";
  SaeTrainer trainer(small_sae(), small_training());
  trainer.step(normals(24, 9, "x"));
  trainer.save(path, "source");
  const std::string good = read_file(path);
  HONE_EXPECT_ERROR(SaeTrainer::load(path, "another"), ErrorCode::bad_input, "other activations");
  RandomStream random(1, "damage");
  for (size_t i = 0; i < 200; ++i) {
    std::string bad = good;
    if (i % 4 == 0)
      bad.resize(random.below(good.size()));
    else
      bad[random.below(good.size())] ^= static_cast<char>(1 + random.below(255));
    if (bad == good) continue;
    write_file_atomically(path, bad);
    try {
      SaeTrainer::load(path, "source");
      ADD_FAILURE() << "damage " << i << " was not seen";
    } catch (const Error& error) {
      EXPECT_NE(error.message.find(path.string()), std::string::npos) << error.message;
    }
  }
}

// A checkpoint whose hash holds, but which no trainer wrote.
TEST(SaeTrainer, CheckpointsThatSayWhatCannotBeAreRefused) {
  const TemporaryFolder folder;
  const std::filesystem::path good = folder.path() / "good", forged = folder.path() / "forged";
  SaeTrainer trainer(small_sae(), small_training());
  trainer.step(normals(24, 9, "x"));
  trainer.save(good, "source");
  const auto forge = [&](const std::string& from, const std::string& to, std::pair<size_t, float> firing) {
    const SafeTensors file = SafeTensors::open(good);
    std::map<std::string, std::string> metadata = file.metadata();
    std::string& settings = metadata.at("hone.sae_training");
    settings.replace(settings.find(from), from.size(), to);
    std::vector<Matrix> values;
    std::vector<NamedMatrix> tensors;
    std::string hashes = settings;
    for (const auto& [name, tensor] : file.tensors()) {
      values.push_back(file.matrix(name));
      if (name == "firings") values.back().data()[firing.first] = firing.second;
      tensors.push_back({name, values.back(), tensor.shape});
      hashes += name + content_hash(std::as_bytes(std::span(values.back().data(), values.back().size())));
    }
    metadata.at("hone.hash") = content_hash(hashes);
    write_safetensors(forged, tensors, metadata);
    return SaeTrainer::load(forged, "source");
  };
  const float part = 1 << 24;
  EXPECT_EQ(forge("\"steps\":12", "\"steps\":13", {0, part}).training().steps, 13U);
  for (const float value : {-1.0F, 0.5F, 2 * part, 1e30F})
    for (const size_t at : {size_t{0}, size_t{79}})
      HONE_EXPECT_ERROR(forge("12", "12", {at, value}), ErrorCode::corrupt, "firings");
  HONE_EXPECT_ERROR(forge("\"revival\":1", "\"revival\":7", {0, 0}), ErrorCode::corrupt, "revival");
  for (const char* steps : {"-1", "1e300", "12.5", "null"})
    HONE_EXPECT_ERROR(forge("\"steps\":12", std::string("\"steps\":") + steps, {0, 0}), ErrorCode::corrupt, "forged");
}

TEST(SaeTrainer, RefusesWhatCannotBe) {
  const auto with = [](const std::function<void(SaeTraining&)>& change) {
    SaeTraining training = small_training();
    change(training);
    return training;
  };
  HONE_EXPECT_ERROR(Sae::create({.inputs = 4, .features = 8, .active = 9}, 0), ErrorCode::bad_input, "k: 9");
  HONE_EXPECT_ERROR(Sae::create({.inputs = 0, .features = 8}, 0), ErrorCode::bad_input, "0 inputs");
  HONE_EXPECT_ERROR(SaeTrainer(small_sae(), with([](auto& t) { t.initial_active = 41; })), ErrorCode::bad_input,
                    "initial k: 41");
  HONE_EXPECT_ERROR(SaeTrainer(small_sae(), with([](auto& t) { t.dropout = 1; })), ErrorCode::bad_input, "dropout");
  HONE_EXPECT_ERROR(SaeTrainer(small_sae(), with([](auto& t) { t.learning_rate = NAN; })), ErrorCode::bad_input,
                    "learning rate");
  HONE_EXPECT_ERROR(SaeTrainer(small_sae(), with([](auto& t) { t.batch = 0; })), ErrorCode::bad_input, "batch");

  Sae odd = small_sae();
  odd.decoder = Matrix(40, 8);
  HONE_EXPECT_ERROR(SaeTrainer(std::move(odd), small_training()), ErrorCode::bad_input, "[40, 8]");
  odd = small_sae();
  odd.decoder_bias.pop_back();
  HONE_EXPECT_ERROR(SaeTrainer(std::move(odd), small_training()), ErrorCode::bad_input, "biases [40] and [8]");
  HONE_EXPECT_ERROR(small_sae().encode(normals(3, 8, "x")), ErrorCode::bad_input, "8 values");

  SaeTrainer trainer(small_sae(), small_training());
  Matrix x = normals(24, 9, "x");
  x.row(5)[3] = NAN;
  HONE_EXPECT_ERROR(trainer.step(x), ErrorCode::bad_input, "row 5");
  HONE_EXPECT_ERROR(trainer.step(normals(24, 8, "x")), ErrorCode::bad_input, "8 values");
  HONE_EXPECT_ERROR(trainer.step(Matrix(0, 9)), ErrorCode::bad_input, "empty");
  EXPECT_EQ(trainer.steps_done(), 0U);
  EXPECT_TRUE(same_parameters(trainer.sae(), small_sae()));
}

TEST(SaeTrainer, SaysSoWhenItDiverges) {
  SaeTraining training = small_training();
  training.learning_rate = 3e38F;
  training.warmup_steps = 0;
  SaeTrainer trainer(small_sae(), training);
  const Matrix x = normals(24, 9, "x");
  HONE_EXPECT_ERROR(for (size_t i = 0; i < 5; ++i) trainer.step(x), ErrorCode::bad_input, "lower the learning rate");
}

TEST(Activations, EveryRowComesOnceAnEpochInAnotherOrder) {
  ShuffledOrder order(37, 5), again(37, 5);
  std::vector<std::vector<uint32_t>> epochs(3);
  for (uint64_t position = 0; position < 3 * 37; ++position) epochs[position / 37].push_back(order.at(position));
  for (const auto& epoch : epochs) EXPECT_EQ(std::set<uint32_t>(epoch.begin(), epoch.end()).size(), 37U);
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_EQ(again.at(2 * 37 + 4), epochs[2][4]);
  EXPECT_EQ(again.at(4), epochs[0][4]);
}

}  // namespace
}  // namespace hone::sae_test
