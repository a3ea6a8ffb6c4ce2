//! LIN-3: the formats that people have, and what is said about files that make no sense.

use quorate_checker::formats::{self, Format, Guess, guess_model, json_lines};
use quorate_checker::models::{Kv, Register};
use quorate_checker::{HistoryOf, Limits, Value, check};

fn register(text: &str) -> HistoryOf<Register> {
    let written = formats::read(text, None).expect("it can be read");
    assert_eq!(guess_model(&written.history), Guess::Register);
    formats::understand(&Register::default(), written).expect("a register")
}

/// The same operations in every format give the same history.
#[test]
fn one_history_in_every_format() {
    let log = "INFO  jepsen.util - 0\t:invoke\t:write\t3\n\
               INFO  jepsen.core - something else\n\
               INFO  jepsen.util - 0\t:ok\t:write\t3\n\
               INFO  jepsen.util - 1\t:invoke\t:cas\t[3 4]\n\
               INFO  jepsen.util - 1\t:fail\t:cas\t[3 4]\n";
    let edn = "[{:process 0, :type :invoke, :f :write, :value 3}\n {:process 0, :type :ok, :f :write, :value 3}\n\
               {:process :nemesis, :type :info, :f :kill, :value nil}\n\
               {:process 1, :type :invoke, :f :cas, :value [3 4]} {:process 1, :type :fail, :f :cas, :value [3 4]}]";
    let events = r#"{"type":"invoke","client":0,"time":1,"f":"write","value":3}
        {"type":"ok","client":0,"time":2}
        {"note":"kill","time":2}
        {"type":"invoke","client":1,"time":3,"f":"cas","value":[3,4]}
        {"type":"ok","client":1,"time":4,"value":false}"#;
    let intervals = r#"{"client":1,"f":"cas","value":[3,4],"call":3,"return":4,"result":false}
        {"client":0,"f":"write","value":3,"call":1,"return":2}"#;
    for text in [log, edn, events, intervals] {
        let history = register(text);
        let told: Vec<_> = history
            .operations()
            .iter()
            .map(|o| (o.client.0, o.input.clone(), o.outcome.clone()))
            .collect();
        assert_eq!(
            format!("{told:?}"),
            "[(0, Write(Int(3)), Returned(Done)), (1, Cas(Int(3), Int(4)), Returned(Swapped(false)))]",
            "{text}"
        );
        assert!(!check(&Register::default(), &history, &Limits::default()).is_linearizable());
    }
}

/// A timed-out write may have happened; a read without an answer says nothing; a failure with an error did not happen.
#[test]
fn what_timed_out_is_unknown() {
    let history = register(
        "INFO  jepsen.util - 0\t:invoke\t:write\t3\nINFO  jepsen.util - 1\t:invoke\t:read\tnil\n\
         INFO  jepsen.util - 0\t:info\t:write\t:timed-out\nINFO  jepsen.util - 1\t:fail\t:read\t:timed-out\n\
         INFO  jepsen.util - 2\t:invoke\t:read\tnil\nINFO  jepsen.util - 2\t:ok\t:read\t3\n",
    );
    assert!(check(&Register::default(), &history, &Limits::default()).is_linearizable());
    let failed = register(
        "{:process 1 :type :invoke :f :cas :value [1 2]}\n{:process 1 :type :fail :f :cas :value [1 2] :error :no-leader}",
    );
    assert_eq!(failed.operations()[0].outcome, quorate_checker::Outcome::Refused);
}

/// Jepsen's independent keys: every value is a pair of a key and a value.
#[test]
fn independent_keys_are_recognised() {
    let text = "{:process 0 :type :invoke :f :write :value [7 1]}\n{:process 0 :type :ok :f :write :value [7 1]}\n\
                {:process 0 :type :invoke :f :read :value [8 nil]}\n{:process 0 :type :ok :f :read :value [8 nil]}";
    let written = formats::read(text, None).expect("it can be read");
    assert_eq!(guess_model(&written.history), Guess::Kv(Value::Nil));
    let history = formats::understand(&Kv::default(), written).expect("a map");
    let verdict = check(&Kv::default(), &history, &Limits::default());
    assert!(verdict.is_linearizable() && verdict.parts.len() == 2, "{verdict:?}");
}

#[test]
fn what_is_written_is_read_again() {
    let text = r#"{"client":1,"f":"write","key":"x","value":"a","call":1,"return":5}
        {"client":2,"f":"read","key":"x","call":2,"return":6,"result":"a","server":"n2"}
        {"client":3,"f":"cas","key":"y","value":[null,"b"],"call":3}"#;
    let read = |text: &str| {
        formats::understand(&Kv::default(), formats::read(text, None).expect("read")).expect("kv")
    };
    let first = read(text);
    let again = read(&json_lines::write(&Kv::default(), &first));
    let told = |history: &HistoryOf<Kv>| format!("{:?}", history.operations());
    assert_eq!(told(&first), told(&again));
}

/// Each error names the line and says what is wrong.
#[test]
fn errors_name_the_line_and_the_reason() {
    for (text, line, reason) in [
        ("{\"type\":\"invoke\",\"client\":1,\"f\":\"read\"}\n{\"type\":\"ok\"", 2, "EOF"),
        ("{\"type\":\"ok\",\"client\":1}", 1, "never began"),
        (
            "{\"type\":\"invoke\",\"client\":1,\"f\":\"read\"}\n\n{\"type\":\"invoke\",\"client\":1,\"f\":\"read\"}",
            3,
            "line 1 has not ended",
        ),
        (
            "{\"type\":\"invoke\",\"client\":1,\"f\":\"read\",\"time\":5}\n{\"type\":\"ok\",\"client\":1,\"time\":4}",
            2,
            "order of their times",
        ),
        ("{\"client\":1,\"f\":\"read\",\"call\":5,\"return\":4}", 1, "before `call`"),
        ("{\"client\":1,\"colour\":\"red\"}", 1, "colour"),
        ("{:process 0, :type :invoke, :f :read}\n{:process 0, :type :ok :f}", 2, "without a value"),
        ("{:process 0, :type :done, :f :read}", 1, ":type"),
        ("hello\nworld", 1, "no Jepsen log"),
    ] {
        let error = formats::read(text, None).expect_err(text);
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.reason.contains(reason), "{text}: {error}");
    }
    let written =
        formats::read("{\"type\":\"invoke\",\"client\":1,\"f\":\"cas\",\"value\":3}", None)
            .expect("it can be read");
    let error = formats::understand(&Register::default(), written).expect_err("3 is no pair");
    assert!(error.line == 1 && error.reason.contains("[from to]"), "{error}");
}

/// An empty file is an empty history, which is linearizable, in any format.
#[test]
fn nothing_is_a_history() {
    for format in [None, Some(Format::JepsenLog), Some(Format::Edn), Some(Format::JsonLines)] {
        let written = formats::read("\n \n", format).expect("nothing is wrong with it");
        let history =
            formats::understand(&Register::default(), written).expect("nothing to understand");
        assert!(check(&Register::default(), &history, &Limits::default()).is_linearizable());
    }
}
