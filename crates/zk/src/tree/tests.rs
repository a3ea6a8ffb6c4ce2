//! A tree, driven by one session: snapshots in slices hold the state at their beginning, whatever changes while they are taken
//! (RAFT-19), and a parent's counter has no end.

use quorate_contracts::{LogIndex, NodeId, Progress, Random, RequestId, StateMachine, WireWriter};

use super::{Tree, anyone, perms};
use crate::command::{
    AclEntry, Attachment, Body, Command, CreateMode, Op, OpReply, Outcome, SessionId,
};

/// A tree that is driven by one session.
struct Driver {
    tree: Tree,
    index: u64,
    session: SessionId,
    sequence: u64,
}

impl Driver {
    fn new() -> Self {
        let mut driver = Self { tree: Tree::new(), index: 0, session: SessionId(0), sequence: 0 };
        let body = Body::CreateSession {
            server: NodeId(1),
            nonce: RequestId(1),
            password: [1; 16],
            timeout_ms: 4_000,
        };
        match driver.apply(body) {
            Outcome::SessionCreated { session } => driver.session = session,
            other => panic!("{other:?}"),
        }
        driver
    }

    fn apply(&mut self, body: Body<'_>) -> Outcome {
        self.index += 1;
        let mut out = WireWriter::default();
        Command { unix_ms: 1_000 + self.index as i64, body }.encode(&mut out);
        self.tree.apply(LogIndex(self.index), &out.finish(), &mut Vec::new())
    }

    fn write(&mut self, op: Op<'_>) -> Outcome {
        self.sequence += 1;
        let (session, attachment, sequence) = (self.session, Attachment(1), self.sequence);
        let identities = Vec::new();
        self.apply(Body::Write { session, attachment, sequence, identities, op })
    }

    fn create(&mut self, path: &str, mode: CreateMode) -> Outcome {
        let acl = vec![AclEntry { perms: perms::ALL, identity: anyone() }];
        self.write(Op::Create { path, data: Some(&[7; 100]), acl, mode })
    }

    /// So many znodes with the same parent.
    fn fill(&mut self, znodes: u64) {
        for number in 0..znodes {
            self.create(&format!("/n{number}"), CreateMode::Persistent);
        }
    }

    fn aside(&self) -> (usize, usize) {
        let aside = self.tree.snapshotting.as_ref().map(|taking| &taking.aside);
        aside.map_or((0, 0), |aside| (aside.len(), aside.values().map(Vec::len).sum()))
    }

    /// The most znodes and bytes that one write sets aside while a snapshot is taken.
    fn most_work(&mut self) -> (usize, usize) {
        self.tree.begin_snapshot();
        assert_eq!(self.aside(), (0, 0), "to begin one costs nothing");
        let mut most = (0, 0);
        for number in 0..90 {
            let before = self.aside();
            let path = format!("/n{number}");
            match number % 3 {
                0 => self.write(Op::SetData { path: &path, data: Some(b"new"), version: -1 }),
                1 => self.write(Op::Delete { path: &path, version: -1 }),
                _ => self.create(&format!("/new{number}"), CreateMode::Persistent),
            };
            let after = self.aside();
            most = (most.0.max(after.0 - before.0), most.1.max(after.1 - before.1));
        }
        most
    }

    /// Some change, which may also be refused.
    fn change(&mut self, random: &mut Random) {
        let parent = random.below(30);
        let path = match random.below(3) {
            0 => format!("/n{parent}"),
            1 => format!("/n{parent}/c{}", random.below(5)),
            _ => format!("/n{parent}/c{}/d", random.below(5)),
        };
        let perms = if random.chance_ppm(500_000) { perms::ALL } else { perms::ALL - perms::ADMIN };
        let acl = vec![AclEntry { perms, identity: anyone() }];
        let data = path.clone().into_bytes();
        self.write(match random.below(5) {
            0 | 1 => {
                let mode = match random.below(6) {
                    0 | 1 => CreateMode::Ephemeral,
                    2 => CreateMode::Container,
                    3 => CreateMode::Ttl(50),
                    _ => CreateMode::Persistent,
                };
                Op::Create { path: &path, data: Some(&data), acl, mode }
            }
            2 => Op::Delete { path: &path, version: -1 },
            3 => Op::SetData { path: &path, data: Some(&data), version: -1 },
            _ => Op::Multi(vec![
                Op::SetAcl { path: &path, acl, version: -1 },
                Op::Check { path: "/n0", version: -1 },
            ]),
        });
    }
}

#[test]
fn a_snapshot_is_the_state_at_its_beginning() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut driver = Driver::new();
        (0..random.below(400)).for_each(|_| driver.change(&mut random));
        let (digest, znodes) = (driver.tree.digest(), driver.tree.znodes());
        driver.tree.begin_snapshot();
        let mut bytes = Vec::new();
        loop {
            let mut slice = Vec::new();
            let progress = driver.tree.snapshot_slice(200, &mut slice);
            assert!(slice.len() < 200 + 4_000, "a slice is a bounded piece of work");
            bytes.append(&mut slice);
            if progress == Progress::Done {
                break;
            }
            (0..random.below(6)).for_each(|_| driver.change(&mut random));
        }
        let restored =
            Tree::restore(&mut &bytes[..]).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!((restored.digest(), restored.znodes()), (digest, znodes), "seed {seed}");
    }
}

/// Two trees that took different ways to the same state have the same digest, and go on alike.
#[test]
fn a_restored_tree_goes_on_like_the_one_it_was_taken_from() {
    for seed in 0..50 {
        let mut random = Random::new(seed);
        let mut driver = Driver::new();
        (0..300).for_each(|_| driver.change(&mut random));
        driver.tree.begin_snapshot();
        let mut bytes = Vec::new();
        while driver.tree.snapshot_slice(1_000, &mut bytes) == Progress::More {}
        let tree = Tree::restore(&mut &bytes[..]).expect("it is whole");
        let mut other = Driver {
            tree,
            index: driver.index,
            session: driver.session,
            sequence: driver.sequence,
        };
        let mut same = random.clone();
        (0..300).for_each(|_| driver.change(&mut random));
        (0..300).for_each(|_| other.change(&mut same));
        assert_eq!(driver.tree.digest(), other.tree.digest(), "seed {seed}");
    }
}

/// A snapshot that was cut or altered anywhere is refused, never half taken.
#[test]
fn a_damaged_snapshot_is_refused() {
    let mut random = Random::new(1);
    let mut driver = Driver::new();
    (0..40).for_each(|_| driver.change(&mut random));
    driver.tree.begin_snapshot();
    let mut bytes = Vec::new();
    while driver.tree.snapshot_slice(1_000, &mut bytes) == Progress::More {}
    for end in 0..bytes.len() {
        assert!(Tree::restore(&mut &bytes[..end]).is_err(), "cut at {end}");
    }
    bytes[3] = 9;
    let error = Tree::restore(&mut &bytes[..]).expect_err("of another version");
    assert_eq!(error.to_string(), "the snapshot has format 9; this build reads up to 1");
}

/// RAFT-19: while a snapshot is taken, a write sets aside the znodes that it touches, the parent among them, and no more: as
/// much in a tree of fifty thousand as in one of a hundred.
#[test]
fn no_write_pays_for_the_size_of_the_tree() {
    let work = |znodes| {
        let mut driver = Driver::new();
        driver.fill(znodes);
        driver.most_work()
    };
    let (small, large) = (work(100), work(50_000));
    assert_eq!(small.0, 2, "the znode and its parent");
    assert_eq!(large, small);
}

/// ZK-2: a parent's counter goes on where ZooKeeper's, of 32 bits, starts again below zero.
#[test]
fn sequence_numbers_do_not_overflow() {
    let mut driver = Driver::new();
    driver.create("/p", CreateMode::Persistent);
    driver.tree.change("/p", |node| node.created = i32::MAX as u64);
    for number in ["2147483647", "2147483648"] {
        let made = driver.create("/p/n-", CreateMode::PersistentSequential);
        let Outcome::Done(Ok(OpReply::Created { path, .. })) = made else { panic!("{made:?}") };
        assert_eq!(path, format!("/p/n-{number}"));
    }
}
