//! The verdict on what the clients saw.

use std::path::Path;
use std::time::{Duration, Instant};

use quorate_checker::formats::json_lines;
use quorate_checker::models::Kv;
use quorate_checker::picture::Picture;
use quorate_checker::promises::{Kept, Promise, keeps, serializable};
use quorate_checker::{Answer, HistoryOf, Limits, Model, Verdict, check};
use serde_json::json;

use super::record::{Recorded, Sequence};
use super::{Api, Verify};
use crate::check::breach_lines;
use crate::failure::{Done, Failure, Kind, tell};

/// What ZooKeeper promises of plain reads (LIN-5). etcd promises of serializable ones that they were true once.
const PROMISES: [Promise; 5] = [
    Promise::LinearizableWrites,
    Promise::Fifo,
    Promise::ReadYourWrites,
    Promise::MonotonicReads,
    Promise::SessionOrder,
];

/// One thing that was checked.
struct Finding {
    what: String,
    answer: Done,
    details: Vec<String>,
}

pub(super) fn judge(verify: &Verify, recorded: &Recorded, took: Duration) -> Result<Done, Failure> {
    let end = Instant::now() + Duration::from_secs(verify.timeout);
    let limits = Limits { expired: &|| Instant::now() > end, ..Limits::default() };
    let (registers, findings) = findings(verify.api, recorded, &limits);
    keep(verify, &recorded.strict, &registers)?;
    report(verify, recorded, &findings, took);
    let is = |done| findings.iter().any(|finding| finding.answer == done);
    Ok(if is(Done::No) {
        Done::No
    } else if is(Done::Undecided) {
        Done::Undecided
    } else {
        Done::Yes
    })
}

/// Everything that is checked, and the verdict on the registers.
fn findings(api: Api, recorded: &Recorded, limits: &Limits<'_>) -> (Verdict, Vec<Finding>) {
    let registers = check(&Kv::default(), &recorded.strict, limits);
    let strict = |what: &str| finding(what, &Kv::default(), &recorded.strict, &registers);
    let findings = match api {
        Api::Zookeeper => {
            let sequence = check(&Sequence, &recorded.sequence, limits);
            let mut findings = vec![
                strict("writes, conditional writes and synced reads are linearizable"),
                finding("sequential znodes count up", &Sequence, &recorded.sequence, &sequence),
                nothing_lost(recorded),
            ];
            findings.extend(PROMISES.map(|promise| {
                let kept = keeps(&Kv::default(), &recorded.all, promise);
                promised(format!("plain reads: {promise}"), kept)
            }));
            findings
        }
        Api::Etcd => {
            let kept = |history, promise| keeps(&Kv::default(), history, promise);
            let strictly =
                serializable(&recorded.transactions, Promise::StrictSerializable, limits);
            vec![
                strict("reads, puts and compare-and-swap are linearizable"),
                promised(
                    "an answer shows the state of the revision that it tells".to_owned(),
                    kept(&recorded.strict, Promise::SessionOrder),
                ),
                promised("transactions are strictly serializable".to_owned(), strictly),
                promised(
                    "serializable reads saw what was written before".to_owned(),
                    kept(&recorded.all, Promise::LinearizableWrites),
                ),
            ]
        }
    };
    (registers, findings)
}

fn keep(verify: &Verify, history: &HistoryOf<Kv>, verdict: &Verdict) -> Result<(), Failure> {
    if let Some(path) = &verify.html {
        write(path, &Picture::of("quorate verify", &Kv::default(), history, verdict).to_html())?;
    }
    if let Some(path) = &verify.history {
        write(path, &json_lines::write(&Kv::default(), history))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| {
        let what = format!("write {}", path.display());
        Failure::new(Kind::Data, what, error, "is the directory there and writable?")
    })
}

fn finding<M: Model>(what: &str, model: &M, history: &HistoryOf<M>, verdict: &Verdict) -> Finding {
    let answer = match verdict.answer {
        Answer::Linearizable => Done::Yes,
        Answer::NotLinearizable => Done::No,
        Answer::Unknown => Done::Undecided,
    };
    Finding { what: what.to_owned(), answer, details: breach_lines(model, history, verdict) }
}

fn nothing_lost(recorded: &Recorded) -> Finding {
    let lost: Vec<_> = recorded.lost.iter().map(u64::to_string).collect();
    let details = if lost.is_empty() { vec![] } else { vec![format!("lost: {}", lost.join(" "))] };
    let answer = if lost.is_empty() { Done::Yes } else { Done::No };
    Finding { what: "every acknowledged znode is there in the end".to_owned(), answer, details }
}

fn promised(what: String, kept: Kept) -> Finding {
    let (answer, details) = match kept {
        Kept::Yes => (Done::Yes, vec![]),
        Kept::Unknown(why) => (Done::Undecided, vec![why]),
        Kept::No(broken) => {
            let told = broken.into_iter().take(5);
            let told = told.map(|way| match way.key {
                Some(key) => format!("{key}: {}", way.why),
                None => way.why,
            });
            (Done::No, told.collect())
        }
    };
    Finding { what, answer, details }
}

fn report(verify: &Verify, recorded: &Recorded, findings: &[Finding], took: Duration) {
    let operations = recorded.operations();
    if verify.json {
        let checked: Vec<_> = findings
            .iter()
            .map(|finding| json!({"what": finding.what, "answer": word(finding.answer), "details": finding.details}))
            .collect();
        let report = json!({
            "operations": operations,
            "answered": recorded.acknowledged(),
            "unknown": recorded.unknown(),
            "faults": recorded.faults,
            "seconds": took.as_secs_f64(),
            "checked": checked,
        });
        return tell(&report.to_string());
    }
    tell(&format!(
        "{operations} operations, {} of unknown outcome, {} faults",
        recorded.unknown(),
        recorded.faults
    ));
    for Finding { what, answer, details } in findings {
        tell(&format!("  {:9}  {what}", word(*answer)));
        details.iter().for_each(|line| tell(&format!("             {line}")));
    }
}

fn word(answer: Done) -> &'static str {
    match answer {
        Done::Yes => "kept",
        Done::No => "BROKEN",
        Done::Undecided => "undecided",
    }
}

#[cfg(test)]
mod tests {
    use quorate_checker::ClientId;
    use quorate_checker::models::register::{Input, Output};

    use quorate_checker::Value;
    use quorate_checker::models::txn::Micro;

    use super::super::record::{By, End, Recorder};
    use super::*;

    fn broken(recorder: &Recorder) -> Vec<String> {
        broken_of(Api::Zookeeper, recorder)
    }

    fn broken_of(api: Api, recorder: &Recorder) -> Vec<String> {
        let (_, findings) = findings(api, &recorder.take(), &Limits::default());
        let broken = findings.into_iter().filter(|finding| finding.answer == Done::No);
        broken.map(|finding| finding.what).collect()
    }

    fn read(recorder: &Recorder, client: u64, value: i64, plain: bool) {
        let open = recorder.invoke(ClientId(client), "r0", Input::Read, plain);
        recorder.end(&open, &End::Returned(Output::Value(value.into())), None);
    }

    fn write(recorder: &Recorder, value: i64) {
        let open = recorder.invoke(ClientId(1), "r0", Input::Write(value.into()), false);
        recorder.end(&open, &End::Returned(Output::Done), None);
    }

    /// An old value is allowed to a plain read, not to one after `sync`.
    #[test]
    fn synced_reads_may_not_be_old() {
        for (plain, expected) in [(true, 0), (false, 1)] {
            let recorder = Recorder::new();
            write(&recorder, 1);
            write(&recorder, 2);
            read(&recorder, 2, 1, plain);
            assert_eq!(broken(&recorder).len(), expected, "plain: {plain}");
        }
    }

    #[test]
    fn plain_reads_may_not_go_back_and_numbers_may_not_be_given_twice() {
        let recorder = Recorder::new();
        write(&recorder, 1);
        write(&recorder, 2);
        read(&recorder, 2, 2, true);
        read(&recorder, 2, 1, true);
        for client in [1, 2] {
            let op = recorder.create(ClientId(client));
            recorder.created(op, &End::Returned(7), None);
        }
        recorder.with(|recorded| recorded.lost.push(7));
        assert_eq!(
            broken(&recorder),
            [
                "sequential znodes count up",
                "every acknowledged znode is there in the end",
                "plain reads: fifo",
                "plain reads: monotonic-reads"
            ]
        );
    }

    /// An answer that shows another state than that of its revision; and a transaction that saw half of another one.
    #[test]
    fn what_etcd_promises_beyond_single_keys() {
        let recorder = Recorder::new();
        let at = |position| By { server: None, position: Some(position) };
        let open = recorder.invoke(ClientId(1), "r0", Input::Write(1.into()), false);
        recorder.end(&open, &End::Returned(Output::Done), at(5));
        let open = recorder.invoke(ClientId(1), "r1", Input::Write(2.into()), false);
        recorder.end(&open, &End::Returned(Output::Done), at(6));
        let open = recorder.invoke(ClientId(1), "r0", Input::Read, false);
        recorder.end(&open, &End::Returned(Output::Value(1.into())), at(5));
        let [a, b] = ["a", "b"].map(std::sync::Arc::<str>::from);
        let both = vec![Micro::Write(a.clone(), 1.into()), Micro::Write(b.clone(), 2.into())];
        let op = recorder.transact(ClientId(1), both);
        recorder.transacted(op, &End::Returned(vec![]), at(7));
        let op = recorder.transact(ClientId(2), vec![Micro::Read(a), Micro::Read(b)]);
        recorder.transacted(op, &End::Returned(vec![1.into(), Value::Nil]), at(7));
        assert_eq!(
            broken_of(Api::Etcd, &recorder),
            [
                "an answer shows the state of the revision that it tells",
                "transactions are strictly serializable"
            ]
        );
    }
}
