#include "bootstrap.h"

#include "state.h"

namespace cachemir {

void prepare_bootstrap(const Context& context, std::uint32_t slots, std::uint32_t budget_encode,
                       std::uint32_t budget_decode, std::uint32_t correction_factor) {
    context.state->value->EvalBootstrapSetup({budget_encode, budget_decode}, {0, 0}, slots, correction_factor);
}

void generate_bootstrap_keys(const Context& context, const SecretKey& key, std::uint32_t slots) {
    context.state->value->EvalBootstrapKeyGen(key.state->value, slots);
}

std::shared_ptr<Ciphertext> bootstrap(const Context& context, const Ciphertext& a, double scale, std::uint32_t slots,
                                      std::uint32_t iterations, std::uint32_t precision) {
    auto input = a.state->value->Clone();
    input->SetScalingFactor(scale);
    input->SetSlots(slots);
    const std::size_t limbs_before = input->GetElements().at(0).GetNumOfElements();
    lbcrypto::ConstCiphertext<DCRTPoly> constant = input;
    auto result = context.state->value->EvalBootstrap(constant, iterations, precision);
    if (result->GetElements().at(0).GetNumOfElements() <= limbs_before) {
        // OpenFHE hands its input back unchanged then.
        throw std::runtime_error("a bootstrap does not raise " + std::to_string(limbs_before) + " limbs");
    }
    // The last product of SlotsToCoeffs is left unrescaled.
    while (result->GetNoiseScaleDeg() > 1) {
        context.state->value->GetScheme()->ModReduceInternalInPlace(result, 1);
    }
    return wrap(*context.state, std::move(result));
}

double scaling_factor(const Ciphertext& a) {
    return a.state->value->GetScalingFactor();
}

}  // namespace cachemir
