//! The words and codes of errors, against a list that was written down once.

use quorate_etcd::Refusal;

/// KV-9: clients compare the words, so they are never reworded.
#[test]
fn errors_have_etcds_codes_and_words() {
    let table: Vec<(u8, u8, &str)> = include_str!("errors.txt")
        .lines()
        .map(|line| {
            let (number, rest) = line.split_once(' ').expect("number, code, words");
            let (code, text) = rest.split_once(' ').expect("number, code, words");
            (number.parse().expect("a number"), code.parse().expect("a code"), text)
        })
        .collect();
    let found: Vec<(u8, u8, &str)> = Refusal::ALL
        .iter()
        .map(|refusal| (*refusal as u8, refusal.code() as u8, refusal.text()))
        .collect();
    assert_eq!(found, table);
}

#[test]
fn a_refusal_is_known_by_its_number() {
    for refusal in Refusal::ALL {
        assert_eq!(Refusal::from_u8(*refusal as u8), Some(*refusal));
    }
    assert_eq!(Refusal::from_u8(0), None);
}
