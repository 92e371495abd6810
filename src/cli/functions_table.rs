//! The functions of a decoder as `calibrate` and `plan` print them.

use crate::decoder::plan::DecoderPlan;

/// Prints degree, iterations and levels of every function that the decoder of `plan` runs.
pub fn print_functions(plan: &DecoderPlan) {
    println!(
        "functions, with the levels each takes: degree of 1/√x; degree^2^squarings of exp; iterations of 1/D before"
    );
    println!("and after its bootstrap, and the smallest D they reach; degree of SiLU");
    println!("layer  norm 1    exp           1/D                norm 2    SiLU");
    for (index, layer) in plan.layers.iter().enumerate() {
        let (levels, softmax) = (layer.levels(), &layer.attention.softmax);
        let (exponential, smallest) = (&softmax.exponential, softmax.before.low);
        let with_levels = |degree: usize, levels: usize| format!("{degree} ({levels})");
        let input_norm = with_levels(layer.input_norm.start.degree(), levels.input_norm);
        let (root, power) = (exponential.root.degree(), 1usize << exponential.squarings);
        let exponential = format!("{root}^{power} ({})", levels.exponential);
        let inverse = format!("{} + {}, {smallest:.0e}", levels.inverse_before, levels.inverse_after);
        let post_norm = with_levels(layer.post_norm.start.degree(), levels.post_norm);
        let silu = with_levels(layer.gate.degree(), levels.silu);
        println!("{index:>5}  {input_norm:<8}  {exponential:<12}  {inverse:<17}  {post_norm:<8}  {silu}");
    }
    println!("final  {} ({})", plan.final_norm.start.degree(), plan.final_norm.levels());
}
