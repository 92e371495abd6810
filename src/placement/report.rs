//! A plan for people, as a text table.

use std::fmt::Write as _;

use super::plan::Plan;

/// The plan as a text table of its first `layers` layers: level at which each operation runs and leaves, bootstraps
/// before it, seconds.
#[must_use]
pub fn text_table(plan: &Plan, layers: usize) -> String {
    let mut text = String::new();
    for (index, layer) in plan.layers.iter().take(layers).enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "layer {index}: enters at level {}, leaves at {}, {} bootstraps, {:.2} s",
            layer.entry_level,
            layer.exit_level,
            layer.bootstraps(),
            layer.seconds
        );
        for step in &layer.steps {
            let outputs: Vec<String> =
                step.outputs.iter().map(|(name, level)| format!("{name} {level}")).collect();
            let _ = write!(
                text,
                "  {:<28} at {:>2} -> {:<44} {:>9.3} s",
                step.operation,
                step.level,
                outputs.join(", "),
                step.seconds
            );
            for bootstrap in &step.bootstraps {
                let from: Vec<String> = bootstrap.from.iter().map(ToString::to_string).collect();
                let _ = write!(
                    text,
                    "  bootstrap {} {} -> {} ({:.2} s)",
                    bootstrap.values.join(" + i "),
                    from.join(","),
                    bootstrap.to,
                    bootstrap.seconds
                );
            }
            text.push('\n');
        }
    }
    text
}
