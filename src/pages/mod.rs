//! What people look at: tables, charts and self-contained HTML pages of results.
//!
//! Tables by comfy-table, charts by plotters, pages by maud. A page refers to nothing outside itself.

mod baselines;
mod chart;
mod comparison;
mod page;
mod plan;
mod table;

pub use baselines::baselines_chart;
pub use chart::{Series, line_chart};
pub use comparison::{comparison_chart, comparison_markdown};
pub use page::{key_value_table, page, svg};
pub use plan::{plan_page, plan_table};
pub use table::Table;
