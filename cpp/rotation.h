// Rotations and conjugation, with the keys stored under the tag of the ciphertext.
#pragma once

#include "objects.h"

namespace cachemir {

/// Rotates left by `step`, 1 … S − 1.
std::shared_ptr<Ciphertext> rotate(const Context& context, const Ciphertext& a, std::uint32_t step);

/// The decomposition that rotations of `a` share.
std::unique_ptr<Digits> decompose(const Context& context, const Ciphertext& a);

/// Rotates left by `step`, 1 … S − 1, with the decomposition of `a`.
std::shared_ptr<Ciphertext> rotate_hoisted(const Context& context, const Ciphertext& a, const Digits& digits,
                                           std::uint32_t step);

/// Complex conjugate of every slot.
std::shared_ptr<Ciphertext> conjugate(const Context& context, const Ciphertext& a);

}  // namespace cachemir
