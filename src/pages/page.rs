//! The frame of an HTML page, and what pages have in common.

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// Looks of all pages.
const STYLE: &str = "body{font:14px sans-serif;margin:24px;max-width:980px;color:#222}\
    table{border-collapse:collapse;margin:8px 0 20px}\
    td,th{border-bottom:1px solid #e4e4e4;padding:3px 14px 3px 0;text-align:left}\
    svg{display:block;margin:8px 0 24px}\
    blockquote{background:#f4f6f4;padding:12px;margin:8px 0;white-space:pre-wrap}\
    .warn{color:#c8432b}";

/// A whole page, which refers to nothing outside itself.
#[must_use]
pub fn page(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                (body)
            }
        }
    }
    .into_string()
}

/// A heading and a table of two columns: names and values.
#[must_use]
pub fn key_value_table(title: &str, rows: &[(String, String)]) -> Markup {
    html! {
        h2 { (title) }
        table {
            @for (name, value) in rows {
                tr { td { (name) } td { (value) } }
            }
        }
    }
}

/// A chart inside a page.
#[must_use]
pub fn svg(chart: &str) -> Markup {
    html! { (PreEscaped(chart)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_nothing_outside_is_named() {
        let body = key_value_table("a & b", &[("<script>".to_owned(), "\"1\"".to_owned())]);
        let page = page("<title>", &body);
        assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
        assert!(page.contains("a &amp; b") && page.contains("&lt;script&gt;"), "{page}");
        assert!(!page.contains("<script>") && page.contains("&lt;title&gt;"), "{page}");
        for outside in ["http", "src=", "href", "url(", "@import"] {
            assert!(!page.contains(outside), "{outside} in {page}");
        }
    }
}
