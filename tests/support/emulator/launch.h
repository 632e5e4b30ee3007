// The launch of kernels on the CPU.
#pragma once

#include <cstdint>
#include <vector>

#include "emulator/cluster.h"

namespace pixelsr {

// Calls body() in each thread of `blocks` blocks of THREADS threads, each with its own shared
// memory. Clusters of `cluster_size` blocks run one after another. If `order` is 0, threads run in
// order; if 1, in reverse; otherwise at random with `order` as the seed. A correct kernel gives the
// same results in every order. Rethrows the exception of a thread, or throws an error that names
// the broken rule.
template <class Body>
void run_grid(int64_t blocks, int cluster_size, int64_t shared_bytes, uint64_t order,
              const Body& body) {
  if (cluster_size < 1 || cluster_size > 16 || blocks < 0 || blocks % cluster_size != 0 ||
      shared_bytes < 0) {
    emulator::fail("there is no grid of " + std::to_string(blocks) + " blocks in clusters of " +
                   std::to_string(cluster_size) + " with " + std::to_string(shared_bytes) +
                   " bytes");
  }
  if (emulator::running_cluster) emulator::fail("run_grid was called within a kernel");
  const auto call = [](const void* body) { (*static_cast<const Body*>(body))(); };
  emulator::Cluster cluster(cluster_size, shared_bytes, order, {call, &body});
  std::vector<int64_t> clusters;
  for (int64_t i = 0; i < blocks / cluster_size; ++i) clusters.push_back(i);
  cluster.order().arrange(clusters);

  const struct Running {
    explicit Running(emulator::Cluster* cluster) { emulator::running_cluster = cluster; }
    ~Running() { emulator::running_cluster = nullptr; }
  } running(&cluster);
  for (const int64_t index : clusters) cluster.run(index);
}

}  // namespace pixelsr
