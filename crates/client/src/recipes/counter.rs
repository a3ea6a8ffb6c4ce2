//! A number that many add to, each addition once (ZK-3, ZK-16): read, then set on condition that nobody was faster; who was slower
//! backs off at random.

use quorate_zk::command::ErrorCode;
use thiserror::Error;

use super::back_off::BackOff;
use super::witness::Witness;
use super::{drawn, known};
use crate::call::Multi;
use crate::client::Client;
use crate::failure::Failure;

/// A counter; the znode's data is the number in decimal.
#[derive(Debug)]
pub struct Counter {
    client: Client,
    path: String,
    witness: Witness,
    back_off: BackOff,
}

/// What an addition came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Added {
    /// The number right after it.
    pub value: i64,
    /// How often others were faster.
    pub collisions: u32,
}

/// Why a counter gives no number.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CounterError {
    /// The servers.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The znode holds something else.
    #[error("{path} does not hold a number")]
    NoNumber {
        /// The znode.
        path: String,
    },
    /// The number would leave 64 bits; nothing was added.
    #[error("{path} would overflow")]
    Overflow {
        /// The znode.
        path: String,
    },
}

impl Counter {
    /// The counter at `path`, which begins with 0.
    pub async fn open(client: &Client, path: &str) -> Result<Self, Failure> {
        let witness = Witness::new(client, path).await?;
        let back_off = BackOff::new(drawn());
        Ok(Self { client: client.clone(), path: path.to_owned(), witness, back_off })
    }

    /// The number.
    pub async fn value(&self) -> Result<i64, CounterError> {
        self.read().await.map(|(value, _)| value)
    }

    /// Adds to it.
    pub async fn add(&mut self, amount: i64) -> Result<Added, CounterError> {
        self.back_off.reset();
        for collisions in 0.. {
            let (before, version) = self.read().await?;
            let value = before
                .checked_add(amount)
                .ok_or_else(|| CounterError::Overflow { path: self.path.clone() })?;
            let text = value.to_string();
            let path = &self.path;
            let set = || Multi::new().set_data(path, text.as_bytes(), version);
            match self.witness.carry_out(set).await? {
                Ok(()) => return Ok(Added { value, collisions }),
                Err(refused) if refused.error.0 == ErrorCode::BadVersion as i32 => {
                    tokio::time::sleep(self.back_off.next()).await;
                }
                Err(refused) => return Err(Failure::answered(refused.error.0).into()),
            }
        }
        unreachable!("an addition ends")
    }

    async fn read(&self) -> Result<(i64, i32), CounterError> {
        let (data, stat) = known(|| self.client.get_data(&self.path)).await?;
        let text = std::str::from_utf8(&data).ok();
        let value = if data.is_empty() { Some(0) } else { text.and_then(|text| text.parse().ok()) };
        let value = value.ok_or_else(|| CounterError::NoNumber { path: self.path.clone() })?;
        Ok((value, stat.version))
    }
}
