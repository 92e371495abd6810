// Arithmetic on ciphertexts. Nothing here changes its inputs; level and scale are the caller's business.
#pragma once

#include "objects.h"

namespace cachemir {

std::shared_ptr<Ciphertext> add(const Context& context, const Ciphertext& a, const Ciphertext& b);
std::shared_ptr<Ciphertext> subtract(const Context& context, const Ciphertext& a, const Ciphertext& b);
std::shared_ptr<Ciphertext> negate(const Context& context, const Ciphertext& a);
std::shared_ptr<Ciphertext> add_polynomial(const Context& context, const Ciphertext& a, const Polynomial& p);
std::shared_ptr<Ciphertext> multiply_polynomial(const Context& context, const Ciphertext& a, const Polynomial& p);

/// Adds real + i · imaginary in every slot, both given by their residues modulo the limbs of `a`.
std::shared_ptr<Ciphertext> add_constant(const Context& context, const Ciphertext& a,
                                         rust::Slice<const std::uint64_t> real,
                                         rust::Slice<const std::uint64_t> imaginary);

/// Multiplies by real + i · imaginary in every slot, both given by their residues modulo the limbs of `a`; an empty
/// slice stands for zero.
std::shared_ptr<Ciphertext> multiply_constant(const Context& context, const Ciphertext& a,
                                              rust::Slice<const std::uint64_t> real,
                                              rust::Slice<const std::uint64_t> imaginary);

/// Multiplies by the monomial X^(N/2), which is i in every slot.
std::shared_ptr<Ciphertext> multiply_by_i(const Context& context, const Ciphertext& a);

/// The product as three polynomials.
std::shared_ptr<Ciphertext> tensor(const Context& context, const Ciphertext& a, const Ciphertext& b);

/// Back to two polynomials, with the relinearization key under the tag of `a`.
std::shared_ptr<Ciphertext> relinearize(const Context& context, const Ciphertext& a);

/// Divides by the last prime and drops it.
std::shared_ptr<Ciphertext> rescale(const Context& context, const Ciphertext& a);

/// Keeps the first `limbs` primes.
std::shared_ptr<Ciphertext> keep_limbs(const Context& context, const Ciphertext& a, std::uint32_t limbs);

/// Number of primes `a` stands over.
std::uint32_t limb_count(const Ciphertext& a);

}  // namespace cachemir
