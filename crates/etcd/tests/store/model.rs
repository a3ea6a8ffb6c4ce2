//! The store against a naive one that keeps a whole map for each revision.

use std::collections::BTreeMap;

use proptest::prelude::*;
use quorate_contracts::StateMachine;
use quorate_etcd::command::{Body, Command};
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::{KeyRange, Refusal};

use super::script::{Player, copy};

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8, u8),
    Compact(u8),
    Restore,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..40_u8, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        2 => (0..40_u8, 0..8_u8).prop_map(|(key, span)| Step::Delete(key, span)),
        1 => any::<u8>().prop_map(Step::Compact),
        1 => Just(Step::Restore),
    ];
    prop::collection::vec(step, 1..400)
}

fn key(number: u8) -> Vec<u8> {
    format!("key{number:02}").into_bytes()
}

/// value, created, mod, version
type Naive = BTreeMap<Vec<u8>, (Vec<u8>, i64, i64, i64)>;

/// `all[r]` is the map at revision r; revisions 0 and 1 are empty.
struct Model {
    all: Vec<Naive>,
    compacted: i64,
}

impl Model {
    fn change(&mut self, change: impl FnOnce(&mut Naive, i64) -> bool) {
        let revision = self.all.len() as i64;
        let mut next = self.all[self.all.len() - 1].clone();
        if change(&mut next, revision) {
            self.all.push(next);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(k, value) => self.change(|map, revision| {
                let (created, version) = map.get(&key(*k)).map_or((revision, 0), |kv| (kv.1, kv.3));
                map.insert(key(*k), (vec![*value], created, revision, version + 1));
                true
            }),
            Step::Delete(k, span) => self.change(|map, _| {
                let before = map.len();
                map.retain(|found, _| *found < key(*k) || *found >= key(k + span));
                map.len() < before
            }),
            Step::Compact(part) => {
                let revision = self.revision_for(*part);
                self.compacted = self.compacted.max(revision);
            }
            Step::Restore => {}
        }
    }

    fn current(&self) -> i64 {
        self.all.len() as i64 - 1
    }

    fn revision_for(&self, part: u8) -> i64 {
        self.current() * i64::from(part) / 256
    }
}

fn body(step: &Step, model: &Model) -> Option<Body> {
    Some(match step {
        Step::Put(k, value) => Body::Put(pb::PutRequest {
            key: key(*k).into(),
            value: vec![*value].into(),
            ..Default::default()
        }),
        Step::Delete(k, span) => Body::DeleteRange(pb::DeleteRangeRequest {
            key: key(*k).into(),
            range_end: key(k + span).into(),
            prev_kv: false,
        }),
        Step::Compact(part) => Body::Compact(pb::CompactionRequest {
            revision: model.revision_for(*part),
            physical: false,
        }),
        Step::Restore => return None,
    })
}

fn compare(player: &Player, model: &Model, start: u8, end: u8, revision: i64, limit: i64) {
    let mut request = pb::RangeRequest {
        key: key(start).into(),
        range_end: key(end).into(),
        revision,
        limit,
        sort_order: i32::from(end % 3),
        ..Default::default()
    };
    let found = player.store.range(&request);
    if revision > 0 && revision < model.compacted {
        assert_eq!(found, Err(Refusal::Compacted));
        return;
    }
    let found = found.expect("the revision is there");
    let at = if revision > 0 { revision } else { model.current() };
    let range = KeyRange::of(&request.key, &request.range_end);
    let mut expected: Vec<_> =
        model.all[at as usize].iter().filter(|(key, _)| range.contains(key)).collect();
    assert_eq!(found.count, expected.len() as i64);
    if end % 3 == 2 {
        expected.reverse();
    }
    if limit > 0 {
        assert_eq!(found.more, expected.len() > limit as usize);
        expected.truncate(limit as usize);
    }
    let found: Vec<_> = found
        .kvs
        .iter()
        .map(|kv| {
            (kv.key.to_vec(), (kv.value.to_vec(), kv.create_revision, kv.mod_revision, kv.version))
        })
        .collect();
    assert_eq!(
        found,
        expected.into_iter().map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>()
    );
    request.count_only = true;
    assert!(player.store.range(&request).expect("as before").kvs.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// KV-1: keys, revisions, versions, counts and old revisions, through compactions and restarts.
    #[test]
    fn the_store_is_what_a_naive_one_is(steps in steps(), asked in prop::collection::vec((0..42_u8, 0..42_u8, any::<u8>(), 0..9_i64), 40)) {
        let mut player = Player::default();
        let mut model = Model { all: vec![Naive::new(); 2], compacted: -1 };
        let mut asked = asked.iter().cycle();
        for step in &steps {
            match body(step, &model) {
                Some(body) => drop(player.apply(Command::of_server(body))),
                None => player.store = copy(&mut player.store),
            }
            model.step(step);
            prop_assert_eq!(player.store.revision().0, model.current());
            let (start, end, part, limit) = asked.next().expect("cycles");
            compare(&player, &model, *start, *end, 0, *limit);
            compare(&player, &model, *start, *end, model.revision_for(*part), *limit);
        }
    }

    /// KV-1: however two stores came to the same state, they have the same hash at each revision, whatever garbage one of
    /// them still keeps.
    #[test]
    fn equal_stores_have_equal_hashes(steps in steps(), part in any::<u8>()) {
        let (mut a, mut b) = (Player::default(), Player::default());
        let mut model = Model { all: vec![Naive::new(); 2], compacted: -1 };
        for step in &steps {
            if let Some(body) = body(step, &model) {
                a.apply(Command::of_server(body.clone()));
                b.apply(Command::of_server(body));
                b.apply(Command::of_server(Body::CollectGarbage));
                b.store = copy(&mut b.store);
            }
            model.step(step);
        }
        prop_assert_eq!(a.store.digest(), b.store.digest());
        let revision = quorate_etcd::Revision(model.revision_for(part).max(model.compacted).max(1));
        prop_assert_eq!(a.store.hash(revision), b.store.hash(revision));
    }
}
