// Keys. Evaluation keys live in OpenFHE's process-wide maps under the tag of their secret key.
#pragma once

#include "objects.h"

namespace cachemir {

std::unique_ptr<SecretKey> generate_secret_key(const Context& context);

/// The tag under which evaluation keys of this secret key are stored; every ciphertext carries it too.
rust::String key_tag(const SecretKey& key);

void generate_relinearization_key(const Context& context, const SecretKey& key);

/// Keys for rotations by `steps` (1 … S − 1, left). Those that exist are not made again.
void generate_rotation_keys(const Context& context, const SecretKey& key, rust::Slice<const std::int32_t> steps);

void generate_conjugation_key(const Context& context, const SecretKey& key);

/// Removes all evaluation keys under `tag`.
void clear_keys(rust::Str tag);

/// Number of evaluation keys under `tag`.
std::uint64_t count_keys(rust::Str tag);

/// Number of key tags with evaluation keys in this process.
std::uint64_t count_key_tags();

/// Bytes of the polynomials of all evaluation keys under `tag`.
std::uint64_t key_bytes(rust::Str tag);

}  // namespace cachemir
