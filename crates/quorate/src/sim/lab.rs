//! `quorate sim lab`: the MIT 6.824 Raft labs' tests, many seeds a row.

use clap::Args;
use quorate_scenarios::RunOptions;
use quorate_scenarios::labs::{CATALOGUE, NAME, Row};
use serde_json::json;

use super::SeedArgs;
use super::campaign::{self, Total};
use crate::failure::{Done, Failure, Kind, tell};

/// Tests of the labs, and their seeds
#[derive(Args)]
#[command(after_help = "Examples:
  quorate sim lab
  quorate sim lab --seeds 100
  quorate sim lab --name TestFigure82C --seed 7")]
pub(crate) struct Lab {
    /// Run only this test; without it the whole catalogue is run
    #[arg(long, value_name = "TEST")]
    name: Option<String>,

    #[command(flatten)]
    seeds: SeedArgs,
}

impl Lab {
    pub(super) fn run(&self) -> Result<Done, Failure> {
        let mut whole = Total::default();
        for row in self.rows()? {
            let total = campaign::run(self.seeds.seeds(), self.seeds.json, |seed| {
                row.run(
                    seed,
                    &RunOptions { trace: self.seeds.seeds().count == 1, ..Default::default() },
                )
            });
            if self.seeds.json {
                let mut line = total.to_json(NAME, self.seeds.seed);
                line["test"] = json!(row.name);
                tell(&line.to_string());
            } else {
                tell(&format!(
                    "{:<32} {}; {} events, {:.0} s of virtual time in {:.2} s",
                    row.name,
                    total.verdict(),
                    total.events,
                    total.virtual_ms as f64 / 1e3,
                    total.seconds,
                ));
            }
            whole.merge(total);
        }
        if self.seeds.json {
            tell(&whole.to_json(NAME, self.seeds.seed).to_string());
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

    fn rows(&self) -> Result<Vec<&'static Row>, Failure> {
        let Some(name) = &self.name else { return Ok(CATALOGUE.iter().collect()) };
        let found = CATALOGUE.iter().filter(|row| row.name.eq_ignore_ascii_case(name));
        let found: Vec<_> = found.collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let names: Vec<_> = CATALOGUE.iter().map(|row| row.name).collect();
        let help = format!("the tests are {}", names.join(", "));
        Err(Failure::new(Kind::Usage, format!("run the lab {name}"), "no test has this name", help))
    }
}
