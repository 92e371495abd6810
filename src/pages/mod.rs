//! What people look at: tables, charts and self-contained HTML pages of results.
//!
//! Tables by comfy-table, charts by plotters, pages by maud. A page refers to nothing outside itself.

mod baselines;
mod benchmarks;
mod chart;
mod comparison;
mod page;
mod plan;
mod table;

pub use baselines::{baselines_chart, baselines_table};
pub use benchmarks::{attention_table, bootstraps_table, operations_table, overflow_table, products_table};
pub use chart::{Series, line_chart};
pub use comparison::{comparison_chart, comparison_markdown};
pub use page::{key_value_table, page, svg};
pub use plan::{plan_page, plan_table};
