// Contexts: parameters and moduli.
#pragma once

#include "objects.h"

namespace cachemir {

/// OpenFHE's version, e.g. "1.4.2".
rust::String library_version();

/// A CKKS context with hybrid key switching. `encapsulated` chooses a sparse secret with encapsulation, which is what
/// bootstrapping wants, instead of a uniform ternary one. OpenFHE's own security check is off: the caller judges
/// log2(QP) itself.
std::unique_ptr<Context> new_context(std::uint32_t log2_n, std::uint32_t depth, std::uint32_t log2_scale,
                                     std::uint32_t log2_base, std::uint32_t digits, bool encapsulated);

/// q_0, q_1, …: the chain, level 0 first.
rust::Vec<std::uint64_t> chain_moduli(const Context& context);

/// The special primes.
rust::Vec<std::uint64_t> special_moduli(const Context& context);

/// Levels a bootstrap consumes with these budgets for CoeffsToSlots and SlotsToCoeffs.
std::uint32_t bootstrap_depth(std::uint32_t budget_encode, std::uint32_t budget_decode, bool encapsulated);

/// Contexts that OpenFHE's process-wide list holds.
std::uint64_t listed_contexts();

}  // namespace cachemir
