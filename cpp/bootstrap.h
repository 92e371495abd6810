// Bootstrapping.
#pragma once

#include "objects.h"

namespace cachemir {

/// Computes the tables for ciphertexts of `slots` slots. Once per slot count; always with the same correction factor,
/// of which OpenFHE keeps one per context.
void prepare_bootstrap(const Context& context, std::uint32_t slots, std::uint32_t budget_encode,
                       std::uint32_t budget_decode, std::uint32_t correction_factor);

/// Generates the keys for ciphertexts of `slots` slots.
void generate_bootstrap_keys(const Context& context, const SecretKey& key, std::uint32_t slots);

/// Refreshes `a`, whose slots have period `slots` and whose scale is `scale`. With 2 iterations the error of the first,
/// assumed below 2^-`precision`, is bootstrapped again.
std::shared_ptr<Ciphertext> bootstrap(const Context& context, const Ciphertext& a, double scale, std::uint32_t slots,
                                      std::uint32_t iterations, std::uint32_t precision);

/// The scale OpenFHE keeps for `a`; meaningful right after a bootstrap only.
double scaling_factor(const Ciphertext& a);

}  // namespace cachemir
