// Encoding, encryption, decryption.
#pragma once

#include "objects.h"

namespace cachemir {

/// Encodes `values` (real and imaginary parts in turn, at most S pairs) at `scale` over the first `limbs` primes.
std::shared_ptr<Polynomial> encode(const Context& context, rust::Slice<const double> values, double scale,
                                   std::uint32_t limbs);

/// A fresh encryption under the secret key.
std::shared_ptr<Ciphertext> encrypt(const Context& context, const SecretKey& key, const Polynomial& plaintext);

/// The S slot values of a ciphertext at `scale` (real and imaginary parts in turn).
rust::Vec<double> decrypt(const Context& context, const SecretKey& key, const Ciphertext& a, double scale);

}  // namespace cachemir
