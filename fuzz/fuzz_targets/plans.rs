//! Any text as a plan, a cost file, or the two reports costs are taken from: an error, or something whose totals can be asked.
//!
//! `cargo +nightly fuzz run plans fuzz/corpus/plans fuzz/seeds/plans`

#![no_main]

use cachemir::placement::{CostFile, Plan};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(plan) = Plan::from_json(text) {
        let _ = plan.bootstraps();
        let again = Plan::from_json(&plan.to_json().unwrap()).unwrap();
        assert_eq!((again.layers.len(), again.bootstraps()), (plan.layers.len(), plan.bootstraps()));
    }
    if let Ok(costs) = CostFile::parse(text) {
        let _ = (costs.operation_costs(), costs.bootstrap_costs());
    }
    let (operations, bootstraps) = text.split_once('\n').unwrap_or((text, text));
    if let Ok(costs) = CostFile::from_bench(operations, bootstraps) {
        let _ = (costs.operation_costs(), costs.bootstrap_costs());
    }
});
