//! Lab 2A: elections.

use quorate_contracts::Term;

use super::tester::{Checked, ELECTION, Lab, check};

pub(super) fn initial_election(lab: &mut Lab) -> Checked {
    lab.leader()?;
    lab.sleep_ms(50)?;
    let first = lab.term()?;
    check(first >= Term(1), || format!("term is {first}, but should be at least 1"))?;
    lab.sleep(2 * ELECTION)?;
    // The labs only warn if the term changed without a failure; here nothing may make it change.
    let second = lab.term()?;
    check(first == second, || format!("term went from {first} to {second} without a failure"))?;
    lab.leader()?;
    Ok(())
}

pub(super) fn re_election(lab: &mut Lab) -> Checked {
    let leader1 = lab.leader()?;
    lab.disconnect([leader1]);
    lab.leader()?;
    lab.connect([leader1]);
    let leader2 = lab.leader()?;
    let next = lab.after(leader2, 1);
    lab.disconnect([leader2, next]);
    lab.sleep(2 * ELECTION)?;
    lab.check_no_leader()?;
    lab.connect([next]);
    lab.leader()?;
    lab.connect([leader2]);
    lab.leader()?;
    Ok(())
}

pub(super) fn many_elections(lab: &mut Lab) -> Checked {
    lab.leader()?;
    for _ in 1..=9 {
        let gone = [lab.any_server(), lab.any_server(), lab.any_server()];
        lab.disconnect(gone);
        lab.leader()?;
        lab.connect(gone);
    }
    lab.leader()?;
    Ok(())
}
