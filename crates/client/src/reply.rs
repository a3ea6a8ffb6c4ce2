//! Answers, decoded.

use bytes::Bytes;
use quorate_zk::command::{AclEntry, Stat};
use quorate_zk::wire::{BadPacket, JuteReader, opcode};

use crate::failure::Answered;

/// The result of one operation of a transaction that was carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MultiReply {
    /// Created under this path.
    Created(String),
    /// Set; the Stat is the new one.
    Set(Stat),
    /// Deleted, or checked.
    Done,
}

/// A transaction of which nothing happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("operation {at} of the transaction failed, so nothing of it happened: {error}")]
pub struct MultiRefused {
    /// The operation that failed; the first is 0.
    pub at: usize,
    /// Why.
    pub error: Answered,
}

pub(crate) fn created(body: &[u8]) -> Result<(String, Stat), BadPacket> {
    let mut input = JuteReader::new(body);
    Ok((input.str()?.to_owned(), input.stat()?))
}

pub(crate) fn stat(body: &[u8]) -> Result<Stat, BadPacket> {
    JuteReader::new(body).stat()
}

/// Null data reads as empty.
pub(crate) fn data(body: &Bytes) -> Result<(Bytes, Stat), BadPacket> {
    data_or_null(body).map(|(data, stat)| (data.unwrap_or_default(), stat))
}

pub(crate) fn data_or_null(body: &Bytes) -> Result<(Option<Bytes>, Stat), BadPacket> {
    let mut input = JuteReader::new(body);
    let data = input.buffer()?.map(|data| body.slice_ref(data));
    Ok((data, input.stat()?))
}

pub(crate) fn children(body: &[u8]) -> Result<(Vec<String>, Stat), BadPacket> {
    let mut input = JuteReader::new(body);
    let names = input.strs()?.into_iter().map(str::to_owned).collect();
    Ok((names, input.stat()?))
}

pub(crate) fn acl(body: &[u8]) -> Result<(Vec<AclEntry>, Stat), BadPacket> {
    let mut input = JuteReader::new(body);
    Ok((input.acl()?, input.stat()?))
}

pub(crate) fn multi(body: &[u8]) -> Result<Result<Vec<MultiReply>, MultiRefused>, BadPacket> {
    let mut input = JuteReader::new(body);
    let mut replies = Vec::new();
    let mut refused = None;
    for at in 0.. {
        let (opcode, done, _) = (input.int()?, input.bool()?, input.int()?);
        if done {
            break;
        }
        if opcode == opcode::ERROR {
            let error = Answered(input.int()?);
            if error.0 != 0 && refused.is_none() {
                refused = Some(MultiRefused { at, error });
            }
        } else {
            replies.push(multi_result(opcode, &mut input)?);
        }
    }
    Ok(refused.map_or(Ok(replies), Err))
}

fn multi_result(opcode: i32, input: &mut JuteReader<'_>) -> Result<MultiReply, BadPacket> {
    Ok(match opcode {
        opcode::CREATE => MultiReply::Created(input.str()?.to_owned()),
        opcode::CREATE2 => {
            let path = input.str()?.to_owned();
            input.stat()?;
            MultiReply::Created(path)
        }
        opcode::SET_DATA => MultiReply::Set(input.stat()?),
        opcode::DELETE | opcode::CHECK => MultiReply::Done,
        _ => return Err(BadPacket("a result of an operation that was not asked for")),
    })
}

#[cfg(test)]
mod tests {
    use quorate_zk::command::{ErrorCode, MultiFailure, OpReply};
    use quorate_zk::wire::{JuteWriter, multi_reply};

    use super::*;

    fn through_the_wire(
        result: Result<Vec<OpReply>, MultiFailure>,
    ) -> Result<Vec<MultiReply>, MultiRefused> {
        let mut out = JuteWriter::with_capacity(64);
        multi_reply(&result, &[1, 5, 2], &mut out);
        multi(&out.finish()[4..]).expect("a client reads it")
    }

    #[test]
    fn a_transaction_tells_its_results_or_who_failed() {
        let stat = Stat { version: 4, ..Stat::default() };
        let created = OpReply::Created { path: "/a".to_owned(), stat };
        assert_eq!(
            through_the_wire(Ok(vec![created, OpReply::Stat(stat), OpReply::Nothing])),
            Ok(vec![MultiReply::Created("/a".to_owned()), MultiReply::Set(stat), MultiReply::Done])
        );
        let failure = MultiFailure { at: 1, ops: 3, error: ErrorCode::BadVersion };
        let refused = MultiRefused { at: 1, error: Answered(-103) };
        assert_eq!(through_the_wire(Err(failure)), Err(refused));
    }
}
