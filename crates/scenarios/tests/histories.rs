//! LIN-3: what clients saw in a simulated run is kept on demand, and can be read and judged again by anybody who has the file.

use quorate_checker::formats::{self, Guess};
use quorate_checker::models::{Kv, Register, Spoken};
use quorate_checker::{Limits, Verdict, check};
use quorate_scenarios::{Report, RunOptions, Summary, kv, raft, zk};

type Scenario = fn(u64, &RunOptions) -> Result<Summary, Box<Report>>;

const SCENARIOS: [(&str, Scenario); 3] = [("raft", raft::run), ("zk", zk::run), ("kv", kv::run)];

fn kept(scenario: Scenario) -> String {
    let options = RunOptions { history: true, ..RunOptions::default() };
    let summary = scenario(3, &options).unwrap_or_else(|report| panic!("\n{report}"));
    summary.history.expect("it was to be kept")
}

fn judged<M: Spoken>(model: &M, written: formats::Written) -> Verdict {
    let history = formats::understand(model, written).expect("the model knows these operations");
    check(model, &history, &Limits::steps(5_000_000))
}

fn judge(text: &str) -> Verdict {
    let written = formats::read(text, None).expect("it can be read");
    match formats::guess_model(&written.history) {
        Guess::Register => judged(&Register::default(), written),
        Guess::Kv(missing) => judged(&Kv { missing }, written),
        other => panic!("it is about {other:?}"),
    }
}

#[test]
fn a_kept_history_is_judged_again() {
    for (name, scenario) in SCENARIOS {
        let text = kept(scenario);
        assert!(text.lines().count() > 40, "{name} has clients: {} lines", text.lines().count());
        assert!(judge(&text).is_linearizable(), "{name}");
    }
}

/// The test of the test: a read that saw what nobody wrote is not explained.
#[test]
fn a_spoiled_history_is_refused() {
    for (name, scenario) in SCENARIOS {
        let text = kept(scenario);
        let reader = text.lines().rev().find(|line| line.contains(r#""f":"read""#));
        let key = reader
            .and_then(|line| line.split(r#""key":"#).nth(1))
            .map(|rest| format!(r#","key":{}"#, rest.split([',', '}']).next().unwrap_or_default()));
        let last: u64 = 1 << 60;
        let spoiled = format!(
            "{text}{{\"type\":\"invoke\",\"client\":99,\"time\":{last},\"f\":\"read\"{}}}\n\
             {{\"type\":\"ok\",\"client\":99,\"time\":{last},\"value\":\"never\"}}\n",
            key.unwrap_or_default()
        );
        assert!(!judge(&spoiled).is_linearizable(), "{name}");
    }
}

/// Nobody pays for what was not asked for.
#[test]
fn histories_are_kept_on_demand_only() {
    let summary =
        raft::run(3, &RunOptions::default()).unwrap_or_else(|report| panic!("\n{report}"));
    assert_eq!(summary.history, None);
}
