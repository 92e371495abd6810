// Ciphertexts as plain residues: what the serialization on the Rust side reads and writes.
#pragma once

#include "objects.h"

namespace cachemir {

/// The two polynomials of `a`, limb after limb, N residues each, in NTT form.
rust::Vec<std::uint64_t> export_ciphertext(const Context& context, const Ciphertext& a);

/// The ciphertext with these residues over the first `limbs` primes, under the key `tag`.
std::shared_ptr<Ciphertext> import_ciphertext(const Context& context, rust::Str tag, std::uint32_t limbs,
                                              rust::Slice<const std::uint64_t> residues);

}  // namespace cachemir
