//! Snapshots in slices hold the state at their beginning, whatever changes while they are taken (RAFT-19).

use quorate_contracts::{LogIndex, NodeId, Progress, Random, RequestId, StateMachine, WireWriter};
use quorate_zk::command::{
    AclEntry, Attachment, Body, Command, CreateMode, Op, Outcome, SessionId,
};
use quorate_zk::tree::{Tree, anyone, perms};

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

    fn write(&mut self, op: Op<'_>) {
        self.sequence += 1;
        let (session, attachment, sequence) = (self.session, Attachment(1), self.sequence);
        let identities = Vec::new();
        self.apply(Body::Write { session, attachment, sequence, identities, op });
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
