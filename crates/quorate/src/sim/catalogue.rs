//! `quorate sim lab`, `quorate sim kv-lab` and `quorate sim lesson`: catalogues of small tests, many seeds a row.

use clap::Args;
use quorate_scenarios::{RunOptions, Test};
use serde_json::json;

use super::SeedArgs;
use super::campaign::{self, Total};
use crate::failure::{Done, Failure, Kind, tell};

/// Tests, and their seeds
#[derive(Args)]
#[command(after_help = "Examples:
  quorate sim lab
  quorate sim lab --seeds 100
  quorate sim lab --name TestFigure82C --seed 7
  quorate sim kv-lab --name TestOnePartition3A
  quorate sim lesson --seeds 100")]
pub(crate) struct Catalogue {
    /// Run only this test; without it the whole catalogue is run
    #[arg(long, value_name = "TEST")]
    name: Option<String>,

    #[command(flatten)]
    seeds: SeedArgs,
}

impl Catalogue {
    /// Runs the rows of a catalogue of this name.
    pub(super) fn run<T: Test>(&self, name: &str, rows: &'static [T]) -> Result<Done, Failure> {
        let mut whole = Total::default();
        for row in self.chosen(name, rows)? {
            let total = campaign::run(self.seeds.seeds(), self.seeds.json, |seed| {
                row.run(
                    seed,
                    &RunOptions { trace: self.seeds.seeds().count == 1, ..Default::default() },
                )
            });
            if self.seeds.json {
                let mut line = total.to_json(name, self.seeds.seed);
                line["test"] = json!(row.name());
                tell(&line.to_string());
            } else {
                tell(&format!(
                    "{:<48} {}; {} events, {:.0} s of virtual time in {:.2} s",
                    row.name(),
                    total.verdict(),
                    total.events,
                    total.virtual_ms as f64 / 1e3,
                    total.seconds,
                ));
            }
            whole.merge(total);
        }
        if self.seeds.json {
            tell(&whole.to_json(name, self.seeds.seed).to_string());
        } else {
            tell(&format!(
                "{} runs: {}; {} events in {:.1} s; trace {}",
                whole.seeds,
                whole.verdict(),
                whole.events,
                whole.seconds,
                whole.hash
            ));
        }
        Ok(if whole.passed() { Done::Yes } else { Done::No })
    }

    fn chosen<T: Test>(&self, kind: &str, rows: &'static [T]) -> Result<Vec<&'static T>, Failure> {
        let Some(name) = &self.name else { return Ok(rows.iter().collect()) };
        let found: Vec<_> =
            rows.iter().filter(|row| row.name().eq_ignore_ascii_case(name)).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let names: Vec<_> = rows.iter().map(|row| row.name()).collect();
        let (what, help) = (format!("run the {kind} {name}"), names.join(", "));
        Err(Failure::new(Kind::Usage, what, "no test has this name", format!("there are {help}")))
    }
}
