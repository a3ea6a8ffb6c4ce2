//! LIN-7: public histories with known verdicts get the known verdict.

use std::path::Path;

use quorate_checker::formats::{self, Guess};
use quorate_checker::models::{Kv, Register, Spoken};
use quorate_checker::{Answer, Limits, Verdict, check};

fn verdict<M: Spoken>(model: &M, written: formats::Written) -> Verdict {
    let history = formats::understand(model, written).expect("the model knows these operations");
    check(model, &history, &Limits::default())
}

fn check_file(path: &Path) -> Verdict {
    let text = std::fs::read_to_string(path).expect("the file is there");
    let written = formats::read(&text, None).expect("it can be read");
    match formats::guess_model(&written.history) {
        Guess::Register => verdict(&Register::default(), written),
        Guess::Kv(missing) => verdict(&Kv { missing }, written),
        other => panic!("{} is about {other:?}", path.display()),
    }
}

/// LIN-7: those that are copied here; `.ci/run` checks the whole set.
#[test]
fn known_verdicts() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/histories"));
    let list = std::fs::read_to_string(folder.join("verdicts.tsv")).expect("the list is there");
    for line in list.lines().skip(1) {
        let [file, known, operations] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("three columns: {line}");
        };
        let verdict = check_file(&folder.join(file));
        let expected = if known == "not-linearizable" {
            Answer::NotLinearizable
        } else {
            Answer::Linearizable
        };
        assert_eq!(verdict.answer, expected, "{file}");
        let count: usize = verdict.parts.iter().map(|part| part.operations.len()).sum();
        assert_eq!(count.to_string(), operations, "operations in {file}");
        if expected == Answer::NotLinearizable {
            let (_, breach) = verdict.breaches().next().expect("a breach says where");
            assert!(breach.core.as_ref().is_some_and(|core| !core.is_empty()), "{file} has a core");
        }
    }
}
