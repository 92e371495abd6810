//! Flags that say which costs `plan` and `baselines` use.

use std::path::{Path, PathBuf};

use crate::placement::CostFile;
use crate::related_work::PublishedTable;
use crate::setup::costs::built_in;
use anyhow::{Context, bail};
use clap::Args;

/// Where costs come from.
#[derive(Args)]
pub struct CostArguments {
    /// Cost file (`bench modules --json`), report of `bench ops` with `--bootstrap-costs`, or a table of seconds by
    /// module and level (TSV, as the paper publishes). Without it: the costs built in, measured at N = 2^16 on two
    /// cores.
    #[arg(long, value_name = "FILE")]
    costs: Option<PathBuf>,
    /// Report of `bench bootstrap`, beside a report of `bench ops`.
    #[arg(long, value_name = "FILE", requires = "costs")]
    bootstrap_costs: Option<PathBuf>,
}

/// Costs as they were given.
pub enum Costs {
    /// Operations, bootstraps and perhaps modules, measured by this program.
    Measured(Box<CostFile>),
    /// Seconds by module and level.
    Table(PublishedTable),
}

impl CostArguments {
    /// The arguments that `--costs` with this path gives.
    #[cfg(test)]
    pub fn of(costs: Option<PathBuf>) -> Self {
        Self { costs, bootstrap_costs: None }
    }

    /// Reads what the flags name.
    pub fn read(&self) -> anyhow::Result<Costs> {
        let Some(path) = &self.costs else {
            return Ok(Costs::Measured(Box::new(built_in()?)));
        };
        let text = read(path)?;
        let file = match &self.bootstrap_costs {
            Some(bootstraps) => CostFile::from_bench(&text, &read(bootstraps)?)?,
            None if text.trim_start().starts_with('{') => CostFile::parse(&text)?,
            None => return Ok(Costs::Table(PublishedTable::parse(&text)?)),
        };
        Ok(Costs::Measured(Box::new(file)))
    }

    /// The measured costs given; `None` for those built in.
    pub fn read_given(&self) -> anyhow::Result<Option<CostFile>> {
        self.costs.is_some().then(|| self.read_measured()).transpose()
    }

    /// Reads the measured costs that the flags name, and refuses a table of modules.
    pub fn read_measured(&self) -> anyhow::Result<CostFile> {
        match self.read()? {
            Costs::Measured(file) => Ok(*file),
            Costs::Table(_) => {
                bail!(
                    "a table of modules prices one method only: give costs of operations (`bench modules --json FILE`)"
                )
            }
        }
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(costs: Option<PathBuf>) -> CostArguments {
        CostArguments::of(costs)
    }

    #[test]
    fn a_table_is_told_from_a_cost_file_by_its_first_character() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.tsv");
        std::fs::write(&path, "module\t1\t2\nQKV\t1\t2\n").unwrap();
        assert!(matches!(arguments(Some(path.clone())).read().unwrap(), Costs::Table(_)));
        assert!(
            arguments(Some(path.clone())).read_measured().unwrap_err().to_string().contains("operations")
        );
        std::fs::write(&path, "{}").unwrap();
        assert!(arguments(Some(path)).read().is_err());
    }
}
