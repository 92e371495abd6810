//! The report of a generation for people: one self-contained HTML page with plots.

use maud::{Markup, html};

use crate::fidelity::shadow::StagePrecision;
use crate::fidelity::verification::Verification;
use crate::measure::Report;
use crate::pages::{Series, key_value_table, line_chart, page, svg};

use super::generate_report::GenerateReport;

/// The page. It refers to nothing outside itself.
pub fn html_page(report: &Report<GenerateReport>, prompt: &str) -> anyhow::Result<String> {
    let body = report.body();
    let security: Vec<(String, String)> = body
        .security
        .iter()
        .map(|key| (format!("{} key", key.name), key.to_string()))
        .chain(
            body.log2_failure_run.map(|log2| ("failure of a bootstrap".to_owned(), format!("2^{log2:.1}"))),
        )
        .collect();
    let content = html! {
        blockquote { b { (prompt) } (body.text) }
        @if report.insecure() {
            p.warn { "Nothing here was securely encrypted." }
        }
        (key_value_table("Run", &run_rows(report)))
        @if !body.security.is_empty() {
            (key_value_table("Security", &security))
        }
        (svg(&seconds_chart(&body.token_seconds)?))
        @if let Some(check) = &body.verification {
            (fidelity(check)?)
        }
        @if !body.stages.is_empty() {
            h2 { "Precision" }
            (svg(&stages_charts(&body.stages)?))
        }
    };
    Ok(page("Private generation", &content))
}

fn run_rows(report: &Report<GenerateReport>) -> Vec<(String, String)> {
    let body = report.body();
    let gigabytes = |bytes: Option<u64>| {
        bytes.map_or_else(|| "not known".to_owned(), |bytes| format!("{:.1} GB", bytes as f64 / 1e9))
    };
    let row = |name: &str, value: String| (name.to_owned(), value);
    vec![
        row("made by", report.origin()),
        row(
            "tokens",
            format!(
                "{} public, {} private, {} new",
                body.public_prefix_tokens,
                body.prompt_token_ids.len(),
                body.token_ids.len()
            ),
        ),
        row("output head", format!("on the {}", body.head)),
        row("first token", format!("{:.1} s, prompt included", body.time_to_first_token_s)),
        row("each token after it", format!("{:.1} s", body.seconds_per_token)),
        row("bootstraps a token", body.bootstraps_per_token.to_string()),
        row(
            "keys",
            format!(
                "{}, {} rotations, made in {:.1} s",
                gigabytes(body.key_bytes),
                body.rotation_keys,
                body.key_generation_s
            ),
        ),
        row("peak memory", gigabytes(body.peak_bytes)),
    ]
}

fn seconds_chart(seconds: &[f64]) -> crate::Result<String> {
    let points = seconds.iter().enumerate().map(|(index, seconds)| (index as f64, *seconds)).collect();
    line_chart("seconds of each new token", ("new token", "s"), &[Series { name: "wall time", points }])
}

/// The exact model's word on the run.
fn fidelity(check: &Verification) -> crate::Result<Markup> {
    let rows = [
        ("tokens both models saw".to_owned(), check.mode.replace('_', "-")),
        ("top-1 agreement".to_owned(), format!("{:.1} %", 100.0 * check.top1)),
        (
            "logit error".to_owned(),
            format!("{:.4} at most, {:.4} rms", check.logit_max_error, check.logit_rms_error),
        ),
        ("KL divergence".to_owned(), format!("{:.2e} nats", check.kl_mean)),
        ("sure tokens that are wrong".to_owned(), check.disagreements.len().to_string()),
    ];
    let points = |value: fn(&crate::fidelity::agreement::PositionFidelity) -> f64| -> Vec<(f64, f64)> {
        check.positions.iter().map(|at| (at.position as f64, value(&at.fidelity))).collect()
    };
    let errors = [
        Series { name: "worst logit", points: points(|fidelity| fidelity.logit_max_error.log2()) },
        Series { name: "rms", points: points(|fidelity| fidelity.logit_rms_error.log2()) },
    ];
    let divergence = [Series { name: "KL", points: points(|fidelity| fidelity.kl.log10()) }];
    Ok(html! {
        (key_value_table("Against the exact model", &rows))
        (svg(&line_chart("error of the logits", ("new token", "log2"), &errors)?))
        (svg(&line_chart("divergence", ("new token", "log10 of nats"), &divergence)?))
    })
}

/// Every bootstrap of the run in its order.
fn stages_charts(stages: &[StagePrecision]) -> crate::Result<String> {
    let points = |value: fn(&StagePrecision) -> f64| -> Vec<(f64, f64)> {
        stages.iter().enumerate().map(|(index, stage)| (index as f64, value(stage))).collect()
    };
    let bits = [
        Series { name: "rms", points: points(|stage| -stage.bootstrap_deviation.log2()) },
        Series { name: "worst slot", points: points(|stage| -stage.bootstrap_error.log2()) },
    ];
    let drift = [Series { name: "worst slot", points: points(|stage| stage.drift.log2()) }];
    Ok(line_chart("bits that each bootstrap kept", ("bootstrap", "bits"), &bits)?
        + &line_chart("difference from the simulator before each bootstrap", ("bootstrap", "log2"), &drift)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fidelity::agreement::PositionFidelity;
    use crate::fidelity::verification::VerifiedPosition;

    #[test]
    fn the_page_shows_every_token_escapes_texts_and_refers_to_nothing_outside() {
        let position = VerifiedPosition {
            position: 0,
            token: 3,
            exact_token: 3,
            gap: 1.5,
            fidelity: PositionFidelity {
                agrees: true,
                kl: 1e-6,
                logit_max_error: 0.01,
                logit_rms_error: 0.002,
            },
        };
        let check = Verification {
            reference_token_ids: vec![3],
            top1: 1.0,
            logit_max_error: 0.01,
            logit_rms_error: 0.002,
            logit_range: 20.0,
            kl_mean: 1e-6,
            mode: "free_running",
            positions: vec![position.clone(), VerifiedPosition { position: 1, ..position }],
            disagreements: vec![],
        };
        let body = GenerateReport {
            prompt_token_ids: vec![1, 2],
            token_ids: vec![3, 4],
            text: "a < b".to_owned(),
            public_prefix_tokens: 0,
            head: "client",
            seconds_per_token: 2.0,
            time_to_first_token_s: 3.0,
            token_seconds: vec![3.0, 2.0],
            key_generation_s: 1.0,
            bootstraps_per_token: 9,
            rotation_keys: 30,
            key_bytes: Some(1 << 30),
            peak_bytes: None,
            security: vec![],
            precision_min_bits: None,
            stages: vec![],
            log2_failure_run: None,
            verification: Some(check),
        };
        let page = html_page(&Report::new("generate", "native", "test", body), "<script>").unwrap();
        assert!(page.contains("&lt;script&gt;") && page.contains("a &lt; b") && !page.contains("<script>"));
        assert!(page.contains("securely encrypted") && page.contains("100.0 %"), "{page}");
        // Two tokens: two seconds, two errors twice, two divergences.
        assert_eq!(page.matches("<circle").count(), 8, "{page}");
        let outside = page.replace("http://www.w3.org/2000/svg", "");
        for link in ["http", "src=", "href", "url(", "@import"] {
            assert!(!outside.contains(link), "{link} in {page}");
        }
    }
}
