#include "keys.h"

#include <set>

#include "state.h"

namespace cachemir {

using Implementation = lbcrypto::CryptoContextImpl<DCRTPoly>;
using EvalKey = lbcrypto::EvalKey<DCRTPoly>;

std::unique_ptr<SecretKey> generate_secret_key(const Context& context) {
    // Through the scheme, not the context: the context looks itself up in the list it was taken off.
    const auto& cc = context.state->value;
    auto pair = cc->GetScheme()->KeyGen(cc, false);
    if (!pair.good()) {
        throw std::runtime_error("key generation failed");
    }
    return std::make_unique<SecretKey>(std::make_shared<SecretKeyState>(SecretKeyState{pair.secretKey}));
}

rust::String key_tag(const SecretKey& key) {
    return key.state->value->GetKeyTag();
}

void generate_relinearization_key(const Context& context, const SecretKey& key) {
    const auto& stored = Implementation::GetAllEvalMultKeys();
    if (stored.find(key.state->value->GetKeyTag()) == stored.end()) {
        context.state->value->EvalMultKeyGen(key.state->value);
    }
}

void generate_rotation_keys(const Context& context, const SecretKey& key, rust::Slice<const std::int32_t> steps) {
    if (!steps.empty()) {
        context.state->value->EvalAtIndexKeyGen(key.state->value, {steps.begin(), steps.end()});
    }
}

void generate_conjugation_key(const Context& context, const SecretKey& key) {
    const auto& secret = key.state->value;
    const auto& cc = context.state->value;
    const std::uint32_t n = cc->GetRingDimension();
    const auto& stored = Implementation::GetAllEvalAutomorphismKeys();
    const auto found = stored.find(secret->GetKeyTag());
    if (found != stored.end() && found->second->count(2 * n - 1) != 0) {
        return;
    }
    // OpenFHE offers no public generation of this key. The Galois element 2N − 1 is its own inverse, so the key leads
    // from the secret to its conjugate, and the automorphism comes after the key switch.
    auto conjugated = std::make_shared<lbcrypto::PrivateKeyImpl<DCRTPoly>>(*secret);
    conjugated->SetPrivateElement(secret->GetPrivateElement().AutomorphismTransform(2 * n - 1));
    auto keys = std::make_shared<std::map<std::uint32_t, EvalKey>>();
    (*keys)[2 * n - 1] = cc->GetScheme()->KeySwitchGen(secret, conjugated);
    Implementation::InsertEvalAutomorphismKey(keys, secret->GetKeyTag());
}

void clear_keys(rust::Str tag) {
    const std::string name(tag);
    Implementation::ClearEvalMultKeys(name);
    Implementation::ClearEvalAutomorphismKeys(name);
}

namespace {

/// Calls `visit` with every evaluation key under `tag`.
template <typename Visit>
void for_each_key(const std::string& tag, Visit visit) {
    const auto& products = Implementation::GetAllEvalMultKeys();
    if (const auto found = products.find(tag); found != products.end()) {
        for (const auto& key : found->second) {
            visit(key);
        }
    }
    const auto& automorphisms = Implementation::GetAllEvalAutomorphismKeys();
    if (const auto found = automorphisms.find(tag); found != automorphisms.end()) {
        for (const auto& [index, key] : *found->second) {
            visit(key);
        }
    }
}

}  // namespace

std::uint64_t count_keys(rust::Str tag) {
    std::uint64_t count = 0;
    for_each_key(std::string(tag), [&](const EvalKey&) { ++count; });
    return count;
}

std::uint64_t count_key_tags() {
    std::set<std::string> tags;
    for (const auto& [tag, keys] : Implementation::GetAllEvalMultKeys()) {
        tags.insert(tag);
    }
    for (const auto& [tag, keys] : Implementation::GetAllEvalAutomorphismKeys()) {
        tags.insert(tag);
    }
    return tags.size();
}

std::uint64_t key_bytes(rust::Str tag) {
    std::uint64_t bytes = 0;
    for_each_key(std::string(tag), [&](const EvalKey& key) {
        for (const auto* half : {&key->GetAVector(), &key->GetBVector()}) {
            for (const auto& polynomial : *half) {
                bytes += std::uint64_t{polynomial.GetRingDimension()} * polynomial.GetNumOfElements() * 8;
            }
        }
    });
    return bytes;
}

}  // namespace cachemir
