#include "context.h"

#include "state.h"

namespace cachemir {

using lbcrypto::CryptoContextFactory;

std::shared_ptr<lbcrypto::CryptoParametersCKKSRNS> ckks_parameters(const ContextState& context) {
    auto parameters =
        std::dynamic_pointer_cast<lbcrypto::CryptoParametersCKKSRNS>(context.value->GetCryptoParameters());
    if (!parameters) {
        throw std::runtime_error("the context is not one of CKKS");
    }
    return parameters;
}

std::size_t chain_limbs(const ContextState& context) {
    return ckks_parameters(context)->GetElementParams()->GetParams().size();
}

std::shared_ptr<DCRTPoly::Params> limb_parameters(const ContextState& context, std::size_t limbs) {
    const auto all = ckks_parameters(context)->GetElementParams();
    const std::size_t size = all->GetParams().size();
    if (limbs == 0 || limbs > size) {
        throw std::out_of_range(std::to_string(limbs) + " limbs of " + std::to_string(size));
    }
    if (limbs == size) {
        return all;
    }
    auto fewer = std::make_shared<DCRTPoly::Params>(*all);
    for (std::size_t i = limbs; i < size; ++i) {
        fewer->PopLastParam();
    }
    return fewer;
}

std::shared_ptr<Ciphertext> wrap(const ContextState& context, lbcrypto::Ciphertext<DCRTPoly> value) {
    const std::size_t limbs = value->GetElements().at(0).GetNumOfElements();
    value->SetNoiseScaleDeg(1);
    value->SetLevel(chain_limbs(context) - limbs);
    value->SetSlots(context.value->GetRingDimension() / 2);
    return std::make_shared<Ciphertext>(std::make_shared<CiphertextState>(CiphertextState{std::move(value)}));
}

std::shared_ptr<Ciphertext> with_elements(const ContextState& context, const Ciphertext& a,
                                          std::vector<DCRTPoly> elements) {
    auto result = a.state->value->CloneEmpty();
    result->SetElements(std::move(elements));
    return wrap(context, std::move(result));
}

rust::String library_version() {
    return GetOPENFHEVersion();
}

namespace {

lbcrypto::SecretKeyDist distribution(bool encapsulated) {
    return encapsulated ? lbcrypto::SPARSE_ENCAPSULATED : lbcrypto::UNIFORM_TERNARY;
}

rust::Vec<std::uint64_t> moduli_of(const DCRTPoly::Params& parameters) {
    rust::Vec<std::uint64_t> result;
    for (const auto& prime : parameters.GetParams()) {
        result.push_back(prime->GetModulus().ConvertToInt<std::uint64_t>());
    }
    return result;
}

}  // namespace

std::unique_ptr<Context> new_context(std::uint32_t log2_n, std::uint32_t depth, std::uint32_t log2_scale,
                                     std::uint32_t log2_base, std::uint32_t digits, bool encapsulated) {
    lbcrypto::CCParams<lbcrypto::CryptoContextCKKSRNS> parameters;
    parameters.SetRingDim(1U << log2_n);
    parameters.SetBatchSize(1U << (log2_n - 1));
    parameters.SetMultiplicativeDepth(depth);
    parameters.SetScalingModSize(log2_scale);
    parameters.SetFirstModSize(log2_base);
    parameters.SetNumLargeDigits(digits);
    parameters.SetSecretKeyDist(distribution(encapsulated));
    parameters.SetKeySwitchTechnique(lbcrypto::HYBRID);
    parameters.SetSecurityLevel(lbcrypto::HEStd_NotSet);
    parameters.SetCKKSDataType(lbcrypto::COMPLEX);
    // The technique whose primes are chosen such that the canonical scales (each the square of the one above, divided
    // by the prime) stay close to 2^log2_scale over a long chain. Its automatic rescaling is never used.
    parameters.SetScalingTechnique(lbcrypto::FLEXIBLEAUTO);

    // OpenFHE keeps every context in a process-wide list and returns the listed one for equal parameters, with its
    // bootstrapping tables. Taken off the list, a context belongs to its owner alone and dies with it. One that
    // somebody else in this process made stays listed.
    auto& listed = const_cast<std::vector<lbcrypto::CryptoContext<DCRTPoly>>&>(
        CryptoContextFactory<DCRTPoly>::GetAllContexts());
    const std::size_t before = listed.size();
    auto context = lbcrypto::GenCryptoContext(parameters);
    if (listed.size() == before + 1 && listed.back() == context) {
        listed.pop_back();
    }
    context->Enable(lbcrypto::PKE);
    context->Enable(lbcrypto::KEYSWITCH);
    context->Enable(lbcrypto::LEVELEDSHE);
    context->Enable(lbcrypto::ADVANCEDSHE);
    context->Enable(lbcrypto::FHE);
    return std::make_unique<Context>(std::make_shared<ContextState>(ContextState{std::move(context)}));
}

rust::Vec<std::uint64_t> chain_moduli(const Context& context) {
    return moduli_of(*ckks_parameters(*context.state)->GetElementParams());
}

rust::Vec<std::uint64_t> special_moduli(const Context& context) {
    return moduli_of(*ckks_parameters(*context.state)->GetParamsP());
}

std::uint32_t bootstrap_depth(std::uint32_t budget_encode, std::uint32_t budget_decode, bool encapsulated) {
    return lbcrypto::FHECKKSRNS::GetBootstrapDepth({budget_encode, budget_decode}, distribution(encapsulated));
}

std::uint64_t listed_contexts() {
    return CryptoContextFactory<DCRTPoly>::GetAllContexts().size();
}

}  // namespace cachemir
