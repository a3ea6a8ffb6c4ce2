//! A queue: items are sequential znodes, the first is taken first, each by one consumer (ZK-16).

use bytes::Bytes;
use quorate_zk::command::{CreateMode, ErrorCode};

use super::turn::sequence;
use super::witness::Witness;
use super::{known, woken};
use crate::call::{Acl, Multi};
use crate::client::Client;
use crate::failure::Failure;

const ITEM: &str = "item-";

/// A queue, for one producer or consumer.
#[derive(Debug)]
pub struct Queue {
    client: Client,
    root: String,
    witness: Witness,
}

/// What was taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueItem {
    /// Its number in the queue: it grows.
    pub number: u64,
    /// What was put.
    pub data: Bytes,
}

impl Queue {
    /// The queue below `root`, which is made if it is not there.
    pub async fn open(client: &Client, root: &str) -> Result<Self, Failure> {
        let witness = Witness::new(client, root).await?;
        Ok(Self { client: client.clone(), root: root.to_owned(), witness })
    }

    /// Puts an item at the end, once.
    pub async fn put(&mut self, data: &[u8]) -> Result<(), Failure> {
        let path = format!("{}/{ITEM}", self.root);
        let create =
            || Multi::new().create(&path, data, CreateMode::PersistentSequential, Acl::open());
        self.witness.carry_out(create).await?.map_err(|refused| Failure::answered(refused.error.0))
    }

    /// Takes the first item, or waits for one.
    pub async fn take(&mut self) -> Result<QueueItem, Failure> {
        loop {
            if let Some(item) = self.poll().await? {
                return Ok(item);
            }
            let (names, _, watch) = known(|| self.client.children_and_watch(&self.root)).await?;
            if items(&names).is_empty() {
                woken(watch).await?;
            }
        }
    }

    /// Takes the first item, if there is one.
    pub async fn poll(&mut self) -> Result<Option<QueueItem>, Failure> {
        let (names, _) = known(|| self.client.children(&self.root)).await?;
        for (number, name) in items(&names) {
            let path = format!("{}/{name}", self.root);
            let data = match known(|| self.client.get_data(&path)).await {
                Ok((data, _)) => data,
                Err(failure) if failure.is(ErrorCode::NoNode) => continue,
                Err(failure) => return Err(failure),
            };
            match self.witness.carry_out(|| Multi::new().delete(&path, -1)).await? {
                Ok(()) => return Ok(Some(QueueItem { number, data })),
                // Another consumer was faster.
                Err(refused) if refused.error.0 == ErrorCode::NoNode as i32 => {}
                Err(refused) => return Err(Failure::answered(refused.error.0)),
            }
        }
        Ok(None)
    }
}

/// The items among these names, the first first.
fn items(names: &[String]) -> Vec<(u64, &str)> {
    let items = names.iter().filter(|name| name.starts_with(ITEM));
    let mut items: Vec<_> =
        items.filter_map(|name| Some((sequence(name)?, name.as_str()))).collect();
    items.sort_unstable();
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_the_order_in_which_they_were_put() {
        let names = ["witness-0", "item-0000000012", "item-10000000000", "item-0000000003"];
        let names = names.map(str::to_owned);
        let expected =
            [(3, "item-0000000003"), (12, "item-0000000012"), (10_000_000_000, "item-10000000000")];
        assert_eq!(items(&names), expected);
    }
}
