// The distribution of steps over the threads of a sample group, with barriers where they must wait.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/program.h"

namespace pixelsr {

// A part of a step: some panels at some sites. A task without a step is a barrier.
struct Task {
  const Step* step;
  int64_t first_panel, panels;
  int64_t first_site, sites;
};

inline int64_t panels_of(const Step& step) { return (step.out.count + PANEL - 1) / PANEL; }

// The work lists of the threads for steps that run one after another. The first thread runs small
// steps alone, so that a chain of small steps needs no barrier.
class ThreadSchedule {
 public:
  ThreadSchedule() = default;

  // `sites_of(step)` returns the number of sites at which a step runs.
  template <class SitesOf>
  ThreadSchedule(const std::vector<const Step*>& steps, SitesOf sites_of, int64_t threads)
      : empty_(steps.empty()), tasks_(threads) {
    for (const Step* step : steps) {
      const int64_t sites = sites_of(*step);
      const bool together = threads > 1 && cost(*step) * sites >= WORTH_SHARING;
      if (threads > 1 && conflicts(*step, together)) wait_for_all();
      remember(*step, together);
      if (together) {
        share(*step, sites);
      } else {
        tasks_[0].push_back({step, 0, panels_of(*step), 0, sites});
      }
    }
  }

  bool empty() const { return empty_; }
  const std::vector<Task>& of(int64_t thread) const { return tasks_[thread]; }

 private:
  struct Access {
    Span span;
    bool writes, together;
  };

  // The number of multiply-adds that take about as long as two barriers.
  static constexpr int64_t WORTH_SHARING = 6000;

  // Returns the cost of a step at one site, in multiply-adds.
  static int64_t cost(const Step& step) {
    constexpr int64_t FUNCTION = 16;  // of a function such as tanh, relative to a multiply-add
    return step.kind == Kind::PRODUCT
               ? step.depth * step.out.count
               : static_cast<int64_t>(step.code.size()) * step.out.count * FUNCTION;
  }

  static bool overlap(const Span& a, const Span& b) {
    return a.buffer == b.buffer && a.first < b.first + b.count && b.first < a.first + a.count;
  }

  bool conflicts(const Step& step, bool together) const {
    return std::any_of(open_.begin(), open_.end(), [&](const Access& before) {
      if (!before.together && !together) return false;  // both run on the first thread
      const bool reads = std::any_of(step.args.begin(), step.args.end(), [&](const Span& span) {
        return before.writes && overlap(span, before.span);
      });
      return reads || overlap(step.out, before.span);
    });
  }

  void remember(const Step& step, bool together) {
    open_.push_back({step.out, true, together});
    for (const Span& span : step.args) open_.push_back({span, false, together});
  }

  void wait_for_all() {
    for (auto& tasks : tasks_) tasks.push_back({nullptr, 0, 0, 0, 0});
    open_.clear();
  }

  // Splits a step by panels, so that each thread reads only its part of the weights. If there are
  // too few panels for the threads, and more sites than panels, it splits by sites.
  void share(const Step& step, int64_t sites) {
    const int64_t threads = static_cast<int64_t>(tasks_.size()), panels = panels_of(step);
    const bool by_panels = step.kind == Kind::PRODUCT && panels >= std::min(threads, sites);
    const int64_t whole = by_panels ? panels : sites;
    for (int64_t thread = 0; thread < threads; ++thread) {
      const int64_t first = whole * thread / threads, last = whole * (thread + 1) / threads;
      if (first == last) continue;
      tasks_[thread].push_back(by_panels ? Task{&step, first, last - first, 0, sites}
                                         : Task{&step, 0, panels, first, last - first});
    }
  }

  bool empty_ = true;
  std::vector<std::vector<Task>> tasks_;  // by thread
  std::vector<Access> open_;
};

}  // namespace pixelsr
