// Feeds a peer test: what the global head and local heads of the published protocol answer on the first test images of
// MNIST, as int32 to stdout: all global answers, then all local ones.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "lab/image_answers.h"
#include "lab/image_data.h"

int main(int argc, char** argv) {
  if (argc != 3 || std::atoi(argv[2]) <= 0) {
    std::fprintf(stderr, "usage: HONE_DATA=FOLDER ttt_predictions NET.safetensors QUERIES\n");
    return 2;
  }
  try {
    using namespace hone::lab;
    const hone::LeNet net = hone::LeNet::open(argv[1]);
    const ImageData data = read_image_data("MNIST");
    const FeatureSpace space = feature_space(net, data, {});
    const LocalProtocol protocol = LocalProtocol::from(published_parameters(net.shape().features()));
    const size_t count = std::min(static_cast<size_t>(std::atoi(argv[2])), data.test.size());
    const hone::ConstMatrixView queries = space.test.view().row_range(0, count);
    const hone::Neighbours neighbours = hone::NeighbourIndex::build(space.train).search(queries, protocol.neighbours);
    const hone::LocalAnswers answers =
        hone::local_answers(space.head, space.train, data.train.labels, neighbours.view(), queries, protocol.training);
    for (const std::vector<int>& labels : {predictions(space.head.logits(queries)), predictions(answers.logits.back())})
      std::fwrite(labels.data(), sizeof(int32_t), labels.size(), stdout);
  } catch (const hone::Error& error) {
    std::fprintf(stderr, "ttt_predictions: %s\n", error.what());
    return 1;
  }
  return 0;
}
