//! Tables of text for a terminal and for Markdown.

use comfy_table::presets::{ASCII_MARKDOWN, NOTHING};
use comfy_table::{CellAlignment, ContentArrangement};

/// A table whose first column is text, aligned left, and whose others are figures, aligned right.
#[derive(Debug)]
pub struct Table {
    table: comfy_table::Table,
}

impl Table {
    /// A table without rows under `header`.
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.set_header(header).set_content_arrangement(ContentArrangement::Disabled);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        Self { table }
    }

    /// Aligns column `index` left, too.
    #[must_use]
    pub fn with_text_column(mut self, index: usize) -> Self {
        if let Some(column) = self.table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Left);
        }
        self
    }

    /// Adds a row of as many cells as the header has.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.table.add_row(cells.into_iter().collect::<Vec<String>>());
    }

    /// The table in Markdown.
    #[must_use]
    pub fn markdown(mut self) -> String {
        self.table.load_style(ASCII_MARKDOWN);
        self.table.trim_fmt() + "\n"
    }
}

/// For a terminal, without borders; ends with a line feed.
impl std::fmt::Display for Table {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = self.table.clone();
        table.load_style(NOTHING);
        writeln!(formatter, "{}", table.trim_fmt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["op", "ms"]);
        table.row(["rotate".to_owned(), "12.5".to_owned()]);
        table.row(["add".to_owned(), "3.0".to_owned()]);
        table
    }

    #[test]
    fn figures_stand_under_each_other() {
        let text = table().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].ends_with("12.5") && lines[2].ends_with(" 3.0"), "{text}");
        assert_eq!(lines[1].len(), lines[2].len(), "{text}");
    }

    #[test]
    fn a_table_in_markdown_has_pipes_and_a_rule() {
        let text = table().markdown();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines.iter().all(|line| line.starts_with('|') && line.ends_with('|')), "{text}");
        assert!(lines[1].contains("---"), "{text}");
    }
}
