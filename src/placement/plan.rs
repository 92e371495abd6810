//! The plan that the encrypted decoder runs by: levels and bootstraps by name, for one model, preset and backend.

use std::collections::HashMap;
use std::path::Path;

use super::graph::{LevelGraph, ValueId};
use super::solution::{Solution, Step};
use crate::contract::{Error, Level, Result};

/// Version of the serialized form.
const VERSION: u32 = 2;

/// What a plan is for. It is refused for anything else.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PlanTarget {
    /// Fingerprint of the model, or the name of a shape without weights.
    pub model: String,
    /// Parameter preset.
    pub preset: String,
    /// Backend.
    pub backend: String,
}

/// Where to bootstrap in a whole model.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Plan {
    version: u32,
    /// What it is for.
    #[serde(flatten)]
    pub target: PlanTarget,
    /// Level at which the first layer is entered.
    pub entry_level: Level,
    /// Seconds predicted for one token.
    pub seconds: f64,
    /// The layers in order.
    pub layers: Vec<LayerPlan>,
}

/// Where to bootstrap in one layer.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LayerPlan {
    /// Name of the layer's graph.
    pub name: String,
    /// Level of its input.
    pub entry_level: Level,
    /// Level of its output.
    pub exit_level: Level,
    /// Seconds predicted.
    pub seconds: f64,
    /// Operations of the layer in running order.
    pub steps: Vec<PlanStep>,
}

/// One operation of a layer.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PlanStep {
    /// Name of the operation.
    pub operation: String,
    /// Level to which its inputs are lowered and at which it runs.
    pub level: Level,
    /// Values it reads, and the level at which it finds each (bootstraps before it done), to be lowered to its own.
    pub inputs: Vec<(String, Level)>,
    /// Levels of its outputs.
    pub outputs: Vec<(String, Level)>,
    /// Seconds predicted, bootstraps apart.
    pub seconds: f64,
    /// Bootstraps right before it.
    pub bootstraps: Vec<PlanBootstrap>,
}

/// One bootstrap, of one value or of several that share it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PlanBootstrap {
    /// Names of the values; two real ones ride as a + i·b.
    pub values: Vec<String>,
    /// Levels of the values before the bootstrap.
    pub from: Vec<Level>,
    /// Level of all values after the bootstrap.
    pub to: Level,
    /// Ciphertexts bootstrapped.
    pub bootstraps: usize,
    /// Seconds predicted.
    pub seconds: f64,
}

impl Plan {
    /// The plan that `solutions` of `graphs` make, layer by layer.
    ///
    /// # Errors
    /// [`Error::Plan`] when the two do not belong together.
    pub fn new(target: PlanTarget, graphs: &[&LevelGraph], solutions: &[Solution]) -> Result<Self> {
        if graphs.len() != solutions.len() || graphs.is_empty() {
            return Err(Error::Plan {
                why: format!("{} solutions for {} layers", solutions.len(), graphs.len()),
                remedy: "solve every layer".to_owned(),
            });
        }
        let layers = graphs
            .iter()
            .zip(solutions)
            .map(|(graph, solution)| LayerPlan::new(graph, solution))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self::of_layers(target, layers))
    }

    /// The plan of given layers, one after the other.
    pub(crate) fn of_layers(target: PlanTarget, layers: Vec<LayerPlan>) -> Self {
        Self {
            version: VERSION,
            target,
            entry_level: layers.first().map(|layer| layer.entry_level).unwrap_or_default(),
            seconds: layers.iter().map(|layer| layer.seconds).sum(),
            layers,
        }
    }

    /// That this plan is for `target`.
    ///
    /// # Errors
    /// [`Error::Plan`] naming what differs.
    pub fn check(&self, target: &PlanTarget) -> Result<()> {
        // The functions of a model depend on the levels, so a difference there is named last.
        let pairs = [
            ("backend", &self.target.backend, &target.backend),
            ("preset", &self.target.preset, &target.preset),
            ("model", &self.target.model, &target.model),
        ];
        match pairs.iter().find(|(_, planned, given)| planned != given) {
            Some((what, planned, given)) => Err(Error::Plan {
                why: format!("it was made for {what} `{planned}`, this is `{given}`"),
                remedy: format!("make a plan for this {what}"),
            }),
            None => Ok(()),
        }
    }

    /// Layer `index`.
    ///
    /// # Errors
    /// [`Error::Plan`] when the plan has fewer layers.
    pub fn layer(&self, index: usize) -> Result<&LayerPlan> {
        self.layers.get(index).ok_or_else(|| Error::Plan {
            why: format!("it has {} layers, layer {index} is asked for", self.layers.len()),
            remedy: "make the plan again for this model".to_owned(),
        })
    }

    /// Ciphertexts bootstrapped for one token.
    #[must_use]
    pub fn bootstraps(&self) -> usize {
        self.layers.iter().map(LayerPlan::bootstraps).fold(0, usize::saturating_add)
    }

    /// This plan as JSON text.
    ///
    /// # Errors
    /// [`Error::Internal`] when it cannot be serialized, which a number that is not finite would do.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|error| Error::Internal(format!("plan to JSON: {error}")))
    }

    /// From JSON: a bare plan, or a report of `cachemir plan`, which holds one under `plan`.
    ///
    /// # Errors
    /// [`Error::Format`] when it is neither, of another version, or does not hang together.
    pub fn from_json(text: &str) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct InReport {
            plan: Plan,
        }
        let bad = |why: String| Error::Format {
            what: "plan".to_owned(),
            why,
            remedy: "make the plan again".to_owned(),
        };
        let plan = serde_json::from_str::<InReport>(text)
            .map(|report| report.plan)
            .or_else(|_| serde_json::from_str::<Plan>(text))
            .map_err(|error| bad(error.to_string()))?;
        if plan.version != VERSION {
            return Err(bad(format!("version {}, this program reads {VERSION}", plan.version)));
        }
        let joints = plan.layers.iter().zip(plan.layers.iter().skip(1)).enumerate();
        for (index, (before, after)) in joints {
            if after.entry_level > before.exit_level {
                return Err(bad(format!(
                    "layer {index} ends at level {}, the next begins at {}",
                    before.exit_level, after.entry_level
                )));
            }
        }
        Ok(plan)
    }

    /// Reads a file written by `cachemir plan`.
    ///
    /// # Errors
    /// [`Error::Io`]; errors of [`Plan::from_json`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Io { path: path.display().to_string(), source })?;
        Self::from_json(&text)
    }
}

impl LayerPlan {
    fn new(graph: &LevelGraph, solution: &Solution) -> Result<Self> {
        let level = |levels: &[Level]| levels.first().copied().unwrap_or_default();
        Ok(Self {
            name: graph.name().to_owned(),
            entry_level: level(&solution.entry),
            exit_level: level(&solution.exit),
            seconds: solution.seconds,
            steps: steps(graph, solution)?,
        })
    }

    /// The step of an operation.
    ///
    /// # Errors
    /// [`Error::Plan`] when the layer has no such operation.
    pub fn step(&self, operation: &str) -> Result<&PlanStep> {
        self.steps.iter().find(|step| step.operation == operation).ok_or_else(|| Error::Plan {
            why: format!("layer `{}` has no operation `{operation}`", self.name),
            remedy: "make the plan again for this model".to_owned(),
        })
    }

    /// Ciphertexts bootstrapped.
    #[must_use]
    pub fn bootstraps(&self) -> usize {
        let counts =
            self.steps.iter().flat_map(|step| &step.bootstraps).map(|bootstrap| bootstrap.bootstraps);
        // Saturating: the counts may come from a damaged file.
        counts.fold(0, usize::saturating_add)
    }
}

/// The steps of `solution`, with the level at which each finds what it reads.
fn steps(graph: &LevelGraph, solution: &Solution) -> Result<Vec<PlanStep>> {
    let mut levels: HashMap<ValueId, Level> =
        graph.inputs().iter().copied().zip(solution.entry.iter().copied()).collect();
    let mut steps = Vec::with_capacity(solution.steps.len());
    for step in &solution.steps {
        for bootstrap in &step.bootstraps {
            levels.extend(bootstrap.values.iter().map(|value| (*value, bootstrap.to)));
        }
        steps.push(PlanStep::new(graph, step, &levels)?);
        let operation = graph.operations().get(step.operation);
        for write in operation.iter().flat_map(|operation| &operation.writes) {
            levels.insert(write.value, step.level.minus(write.depth, "plan")?);
        }
    }
    Ok(steps)
}

impl PlanStep {
    fn new(graph: &LevelGraph, step: &Step, levels: &HashMap<ValueId, Level>) -> Result<Self> {
        let name = |value| Ok(graph.value(value)?.name.clone());
        let operation = graph.operations().get(step.operation).ok_or_else(|| Error::Plan {
            why: format!("graph `{}` has no operation {}", graph.name(), step.operation),
            remedy: "use the graph that was solved".to_owned(),
        })?;
        let mut inputs = Vec::with_capacity(operation.reads.len());
        for read in &operation.reads {
            let level = levels.get(&read.value).copied().unwrap_or(step.level);
            inputs.push((name(read.value)?, level));
        }
        let mut outputs = Vec::with_capacity(operation.writes.len());
        for write in &operation.writes {
            outputs.push((name(write.value)?, step.level.minus(write.depth, "plan")?));
        }
        let mut bootstraps = Vec::with_capacity(step.bootstraps.len());
        for bootstrap in &step.bootstraps {
            bootstraps.push(PlanBootstrap {
                values: bootstrap.values.iter().map(|value| name(*value)).collect::<Result<_>>()?,
                from: bootstrap.from.clone(),
                to: bootstrap.to,
                bootstraps: bootstrap.bootstraps,
                seconds: bootstrap.seconds,
            });
        }
        Ok(Self {
            operation: operation.name.clone(),
            level: step.level,
            inputs,
            outputs,
            seconds: step.seconds,
            bootstraps,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BootstrapCosts, Search, place};
    use super::*;

    fn target() -> PlanTarget {
        PlanTarget { model: "m".to_owned(), preset: "n16".to_owned(), backend: "native".to_owned() }
    }

    fn plan() -> Plan {
        let mut builder = LevelGraph::builder("layer", Level(3));
        let x = builder.input("x", 1, 2);
        let y = builder.value("y", 1, 2);
        builder.operation("square", &[x], &[y], 2, vec![None, None, Some(1.0), Some(1.0)]);
        let graph = builder.finish(&[y]).unwrap();
        let layers = [&graph, &graph, &graph];
        let costs = BootstrapCosts::constant(5.0, Level(3));
        let solutions = place(&layers, &costs, Level(3), Search::Exact).unwrap();
        Plan::new(target(), &layers, &solutions).unwrap()
    }

    #[test]
    fn a_plan_survives_json_bare_and_inside_a_report() {
        let plan = plan();
        assert_eq!(plan.bootstraps(), 2);
        assert!((plan.seconds - 13.0).abs() < 1e-12, "{}", plan.seconds);
        let text = plan.to_json().unwrap();
        assert_eq!(Plan::from_json(&text).unwrap(), plan);
        assert_eq!(Plan::from_json(&format!("{{\"layers\": 3, \"plan\": {text}}}")).unwrap(), plan);
        assert_eq!(plan.layer(0).unwrap().step("square").unwrap().inputs, [("x".to_owned(), Level(3))]);
        assert_eq!(plan.layer(1).unwrap().step("square").unwrap().bootstraps[0].values, ["x"]);
        assert!(plan.layer(3).is_err() && plan.layer(0).unwrap().step("cube").is_err());
    }

    #[test]
    fn a_plan_for_another_model_preset_or_backend_is_refused_by_name() {
        let plan = plan();
        plan.check(&target()).unwrap();
        for (given, expected) in [
            (PlanTarget { model: "other".to_owned(), ..target() }, "model `m`"),
            (PlanTarget { preset: "test".to_owned(), ..target() }, "preset `n16`"),
            (PlanTarget { backend: "openfhe".to_owned(), ..target() }, "backend `native`"),
        ] {
            let error = plan.check(&given).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn damaged_plans_are_refused() {
        let text = plan().to_json().unwrap();
        for (from, to, expected) in [
            ("\"version\": 2", "\"version\": 3", "version 3"),
            ("\"exit_level\": 1", "\"exit_level\": 0", "ends at level 0"),
            ("\"steps\"", "\"stairs\"", "steps"),
        ] {
            let error = Plan::from_json(&text.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
