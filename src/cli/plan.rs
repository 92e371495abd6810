//! `cachemir plan`: where to bootstrap in a model, and what a token will cost.

use std::time::Instant;

use crate::measure::{Report, write_atomically};
use crate::pages::{plan_page, plan_table};
use crate::placement::{LevelGraph, Plan, PlanTarget, Search, place, place_greedily, states_kept};
use serde::Serialize;

use super::plan_decoder::{DecoderPlanRequest, plan_decoder};
use super::plan_flags::{PlanVerb, SearchFlag};
use super::plan_shape::{Comparison, Problem};
use super::plan_steps::{GREEDY, LayerStep};

#[derive(Serialize)]
struct Body<'a> {
    layers: usize,
    bootstraps: usize,
    bootstraps_greedy: usize,
    seconds_predicted: f64,
    seconds_greedy: f64,
    /// Seconds a layer in the steady state by the paper's composition of modules; of a table only.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_per_layer_composed: Option<f64>,
    /// Placed and greedy in the paper's setting; of a shape only.
    #[serde(skip_serializing_if = "Option::is_none")]
    paper_setting: Option<Comparison>,
    planning_seconds: f64,
    states: usize,
    search: Search,
    costs: &'a str,
    steps: Vec<LayerStep<'a>>,
    plan: &'a Plan,
}

impl PlanVerb {
    /// Solves, prints and writes the plan.
    pub fn run(self) -> anyhow::Result<()> {
        if let Some(model) = &self.model {
            return plan_decoder(DecoderPlanRequest {
                model,
                costs: self.costs.read_given()?,
                preset: self.preset,
                backend: self.backend,
                context: self.context,
                head: self.head,
                json: self.json.as_deref(),
                html: self.html.as_deref(),
            });
        }
        let problem = self.problem()?;
        let Problem { graph, bootstraps, top, paper_setting, seconds_per_layer_composed, .. } = &problem;
        let search = match self.search {
            SearchFlag::Exact => Search::Exact,
            SearchFlag::Pruned => Search::Pruned,
        };
        let layers: Vec<&LevelGraph> = vec![graph; problem.layers];
        let start = Instant::now();
        let solutions = place(&layers, bootstraps, *top, search)?;
        let planning_seconds = start.elapsed().as_secs_f64();
        let states = states_kept(graph, bootstraps, &[*top], search)?;
        let free = graph.without_restrictions();
        let greedy = place_greedily(&vec![&free; layers.len()], bootstraps, *top)?;
        let target = PlanTarget {
            model: problem.name.clone(),
            preset: self.preset.to_string(),
            backend: self.backend.to_string(),
        };
        let plan = Plan::new(target, &layers, &solutions)?;
        let against_greedy = Comparison::new(&solutions, &greedy);
        print!("{}", plan_table(&plan, 2));
        println!(
            "{}: {} layers, {} bootstraps, {:.1} s a token predicted",
            plan.target.model,
            plan.layers.len(),
            plan.bootstraps(),
            plan.seconds
        );
        println!("planned in {planning_seconds:.3} s, {states} states a layer");
        println!("{GREEDY}: {against_greedy}");
        problem.print();
        if let Some(path) = &self.html {
            write_atomically(path, plan_page(&plan)?.as_bytes())?;
        }
        let Some(path) = &self.json else { return Ok(()) };
        let body = Body {
            layers: plan.layers.len(),
            bootstraps: plan.bootstraps(),
            bootstraps_greedy: against_greedy.bootstraps_greedy,
            seconds_predicted: plan.seconds,
            seconds_greedy: against_greedy.seconds_greedy,
            seconds_per_layer_composed: *seconds_per_layer_composed,
            paper_setting: *paper_setting,
            planning_seconds,
            states,
            search,
            costs: &problem.provenance,
            steps: LayerStep::all(&plan),
            plan: &plan,
        };
        Ok(Report::new("plan", self.backend.name(), self.preset.name(), body).write(path)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::costs::CostArguments;
    use std::path::PathBuf;

    use super::*;
    use crate::decoder::head_side::HeadSide;
    use crate::setup::{Backend, Preset};

    fn verb(costs: Option<PathBuf>, search: SearchFlag, json: PathBuf) -> PlanVerb {
        PlanVerb {
            model: None,
            shape: Some("tinyllama".to_owned()),
            costs: CostArguments::of(costs),
            bootstrap_seconds: 24.0,
            max_level: None,
            search,
            preset: Preset::N16,
            backend: Backend::Native,
            context: 128,
            slots: 32768,
            head: HeadSide::Client,
            kept_encoded: false,
            json: Some(json),
            html: None,
        }
    }

    #[test]
    fn a_report_has_the_steps_of_every_layer_and_is_itself_a_plan() {
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("plan.json");
        verb(None, SearchFlag::Exact, json.clone()).run().unwrap();
        let text = std::fs::read_to_string(&json).unwrap();
        let plan = Plan::from_json(&text).unwrap();
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        let steps = report["steps"].as_array().unwrap();
        assert_eq!(steps.len(), plan.layers.iter().map(|layer| layer.steps.len()).sum::<usize>());
        assert_eq!((report["layers"].as_u64(), report["layers"].is_u64()), (Some(22), true));
        assert_eq!(steps[steps.len() - 1]["layer"], 21);
        assert!(steps[0]["operation"].is_string() && steps[0]["level"].is_u64(), "{}", steps[0]);
        assert_eq!(report["bootstraps"].as_u64().unwrap() as usize, plan.bootstraps());
        assert!(report["seconds_predicted"].as_f64() <= report["seconds_greedy"].as_f64(), "{text}");
    }

    #[test]
    fn a_published_table_is_planned_with_its_composition_beside_and_pruning_is_refused_where_it_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("table.tsv");
        std::fs::write(&table, include_str!("../related_work/published_latency.tsv")).unwrap();
        let json = folder.path().join("plan.json");
        verb(Some(table.clone()), SearchFlag::Exact, json.clone()).run().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        let seconds = report["seconds_per_layer_composed"].as_f64().unwrap();
        assert!((seconds - 339.44).abs() < 0.005, "{seconds}");
        // Costs of the table fall with the level here and there.
        let error = verb(Some(table), SearchFlag::Pruned, json).run().unwrap_err().to_string();
        assert!(error.contains("prun"), "{error}");
    }
}
