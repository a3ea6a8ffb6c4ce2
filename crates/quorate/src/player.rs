//! `quorate trace`: the trace of a simulated run as a page that plays it.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::{Done, Failure, Kind, tell};

/// Make a page that plays the trace of a simulated run, in any browser and without a server
#[derive(Args)]
#[command(after_help = "Examples:
  quorate sim raft --seed 5 --trace storm.jsonl
  quorate trace storm.jsonl --html storm.html")]
pub(crate) struct Trace {
    /// What `quorate sim ... --trace FILE` wrote
    file: PathBuf,

    /// The page to write
    #[arg(long, value_name = "OUT")]
    html: PathBuf,
}

impl Trace {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        let what = format!("read {}", self.file.display());
        let help = "`quorate sim raft --seed 5 --trace FILE` writes such a file";
        let trace = fs::read_to_string(&self.file)
            .map_err(|error| Failure::new(Kind::Data, &what, error, help))?;
        if !is_trace(&trace) {
            let cause = "its first line is no event of a run (docs/trace.md)";
            return Err(Failure::new(Kind::BadInput, what, cause, help));
        }
        let name = self.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        write_page(&self.html, &name, &trace)?;
        tell(&format!("{}: open it in a browser", self.html.display()));
        Ok(Done::Yes)
    }
}

/// Writes a page that plays the trace.
pub(crate) fn write_page(page: &Path, title: &str, trace: &str) -> Result<(), Failure> {
    fs::write(page, quorate_server::player_page(title, trace)).map_err(|error| {
        let what = format!("write the page to {}", page.display());
        Failure::new(Kind::Data, what, error, "name a file in a folder that can be written")
    })
}

fn is_trace(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    serde_json::from_str::<serde_json::Value>(first)
        .is_ok_and(|event| event["t"].is_u64() && event["e"].is_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_trace_is_told_from_one() {
        assert!(is_trace("{\"t\":0,\"e\":\"healed\"}\n"));
        for other in ["", "hello\n", "{}\n", "{\"t\":\"0\",\"e\":\"healed\"}\n"] {
            assert!(!is_trace(other), "{other}");
        }
    }
}
