//! What other members say, on the connections that they dialled.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use quorate_contracts::{GroupId, Malformed, NodeId, WireReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

use super::hello::{self, Refused};
use super::{HELLO_PATIENCE, Known, SIGN_OF_LIFE, SIGNS_OF_LIFE, Trust};
use crate::channel::Channel;
use crate::data_dir::DataDir;
use crate::inbox::{Inbox, Incoming};

const FRAME_HEADER_BYTES: usize = 16;
/// More than the largest append with the largest entry.
const FRAME_BYTES_MAX: usize = 64 << 20;
const READ_BYTES: usize = 64 << 10;
/// Connections whose other end has not yet said who it is.
const STRANGERS_MAX: usize = 64;

/// A connection that a member dialled, as the loop sees it.
#[derive(Debug)]
pub(crate) struct Line {
    member: NodeId,
    refused: Cell<Option<Malformed>>,
    over: Notify,
    /// Something was heard since the last look.
    heard: Cell<bool>,
}

impl Line {
    fn new(member: NodeId) -> Self {
        Self { member, refused: Cell::new(None), over: Notify::new(), heard: Cell::new(false) }
    }

    /// Who is at the other end.
    pub(crate) fn member(&self) -> NodeId {
        self.member
    }

    /// It said what does not read: the connection ends, and nothing else (RPC-7).
    pub(crate) fn refuse(&self, reason: Malformed) {
        self.refused.set(Some(reason));
        self.over.notify_one();
    }
}

/// Takes connections of other members.
pub(crate) struct Acceptor {
    pub(crate) data_dir: Rc<DataDir>,
    pub(crate) members: Known,
    pub(crate) trust: Trust,
    pub(crate) inbox: Inbox,
    /// After so much silence a member is taken for lost.
    pub(crate) silence: Duration,
}

impl Acceptor {
    pub(crate) async fn accept(self, listener: TcpListener) {
        let acceptor = Rc::new(self);
        let places = Arc::new(Semaphore::new(STRANGERS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let acceptor = acceptor.clone();
                    tokio::task::spawn_local(async move {
                        let told = match acceptor.welcome(stream).await {
                            Ok((channel, member)) => {
                                drop(place);
                                acceptor.listen_to(&channel, member).await
                            }
                            Err(reason) => Err(reason),
                        };
                        // Who is no member yet, or no more, knocks again and again.
                        if let Err(reason @ Refused::NotAMember(_)) = &told {
                            tracing::debug!(%peer, %reason, "a member's connection is closed");
                        } else if let Err(reason) = told {
                            tracing::warn!(%peer, %reason, "a member's connection is closed");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a member");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Finds out who dialled.
    async fn welcome(&self, stream: TcpStream) -> Result<(Channel, NodeId), Refused> {
        let hello = async {
            let channel = match &self.trust.tls {
                None => Channel::plain(stream),
                Some((tls, _)) => {
                    Channel::accept(stream, tls.current()).await.map_err(Refused::Tls)?
                }
            };
            let secret = self.trust.secret.as_ref();
            let member = hello::hear(&channel, &self.data_dir, &self.members, secret).await?;
            Ok((channel, member))
        };
        let heard = tokio::time::timeout(HELLO_PATIENCE, hello).await;
        heard.unwrap_or_else(|_| Err(Refused::Silent(std::io::ErrorKind::TimedOut.into())))
    }

    async fn listen_to(&self, channel: &Channel, member: NodeId) -> Result<(), Refused> {
        let line = Rc::new(Line::new(member));
        let result = tokio::select! {
            result = read_frames(channel, &line, &self.inbox) => result,
            () = line.over.notified() => Ok(()),
            () = falls_silent(&line, self.silence) => Err(Refused::Mute(self.silence)),
        };
        self.inbox.push(Incoming::MemberLost(member));
        match line.refused.get() {
            Some(Malformed(reason)) => Err(Refused::Malformed(reason)),
            None => result,
        }
    }
}

/// Returns once nothing was heard for so long. Counted in looks rather than by the clock: a process that was stopped
/// and goes on finds one look due, not all of them, and what came meanwhile waits in the socket.
async fn falls_silent(line: &Line, silence: Duration) {
    let mut silent = 0;
    while silent <= SIGNS_OF_LIFE {
        tokio::time::sleep(silence / SIGNS_OF_LIFE).await;
        silent = if line.heard.replace(false) { 0 } else { silent + 1 };
    }
}

/// Takes what a member says until it closes, or says what does not make sense.
async fn read_frames(channel: &Channel, line: &Rc<Line>, inbox: &Inbox) -> Result<(), Refused> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut more = false;
    loop {
        if more {
            tokio::task::coop::consume_budget().await;
        } else if channel.readable().await.is_err() {
            return Ok(());
        }
        buffer.reserve(READ_BYTES / 8);
        match channel.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {
                line.heard.set(true);
                more = channel.may_hold_more();
                take_frames(&mut buffer, line, inbox)?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => more = false,
            Err(_) => return Ok(()),
        }
    }
}

fn take_frames(buffer: &mut BytesMut, line: &Rc<Line>, inbox: &Inbox) -> Result<(), Refused> {
    while let Some(head) = buffer.first_chunk::<FRAME_HEADER_BYTES>() {
        let mut input = WireReader::from_slice(head);
        let (Ok(length), Ok(checksum)) = (input.u32(), input.u32()) else { return Ok(()) };
        let length = length as usize;
        if !(8..=FRAME_BYTES_MAX).contains(&length) {
            return Err(Refused::Malformed("its length is out of range"));
        }
        if buffer.len() < 8 + length {
            buffer.reserve(8 + length - buffer.len());
            return Ok(());
        }
        buffer.advance(8);
        let mut body = buffer.split_to(length).freeze();
        if crc32c::crc32c(&body) != checksum {
            return Err(Refused::Malformed("it fails its checksum"));
        }
        let group = GroupId(body.get_u64());
        if group == SIGN_OF_LIFE {
            continue;
        }
        inbox.push(Incoming::Message { line: line.clone(), group, body });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(speaks_every: Option<u64>, within: u64) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let line = Line::new(NodeId(2));
            let speaks = async {
                loop {
                    tokio::time::sleep(Duration::from_millis(speaks_every.unwrap_or(60_000))).await;
                    line.heard.set(true);
                }
            };
            tokio::select! {
                () = falls_silent(&line, Duration::from_millis(40)) => false,
                () = speaks => unreachable!(),
                () = tokio::time::sleep(Duration::from_millis(within)) => true,
            }
        })
    }

    /// RAFT-23: silence is a loss, for all groups at once; signs of life are none.
    #[test]
    fn a_line_that_falls_silent_is_over() {
        assert!(!passes(None, 60_000));
        assert!(passes(Some(1), 500));
    }

    /// RPC-7: frames that are damaged, too long or too short end the line; signs of life reach nobody.
    #[test]
    fn frames_are_checked_before_anything_is_made_of_them() {
        let inbox = Inbox::new(Arc::new(Notify::new()));
        let line = Rc::new(Line::new(NodeId(2)));
        let take = |bytes: &[u8]| {
            let mut buffer = BytesMut::from(bytes);
            let taken = take_frames(&mut buffer, &line, &inbox);
            (taken.map_err(|refused| refused.to_string()), inbox.take().len())
        };
        let good = super::super::framed(&7_u64.to_be_bytes());
        let sign = super::super::framed(&SIGN_OF_LIFE.0.to_be_bytes());
        assert_eq!(take(&good), (Ok(()), 1));
        assert_eq!(take(&[&good[..], &sign, &good].concat()), (Ok(()), 2));
        assert_eq!(take(&good[..good.len() - 1]), (Ok(()), 0));
        let mut damaged = good.to_vec();
        damaged[9] ^= 1;
        assert!(take(&damaged).0.is_err_and(|refused| refused.contains("checksum")));
        for length in [0_u32, 7, u32::MAX] {
            let mut wrong = good.to_vec();
            wrong[..4].copy_from_slice(&length.to_be_bytes());
            assert!(take(&wrong).0.is_err_and(|refused| refused.contains("length")), "{length}");
        }
    }
}
