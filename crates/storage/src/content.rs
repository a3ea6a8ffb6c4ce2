//! The content of a snapshot file, piece by piece: for whoever reads a large one without having it in memory.

use std::io::{self, Read};

use bytes::Bytes;
use quorate_contracts::{ClusterId, GroupId, Incarnation, NodeId, SnapshotMeta};

use crate::Identity;
use crate::snapshot::{PIECE_HEADER_BYTES, end_frame, read_header, read_piece};

/// Magic, cluster, group, index, term, and the bytes of the membership.
const FIXED_HEADER_BYTES: usize = 44;
/// No membership is larger.
const MEMBERSHIP_BYTES_MAX: usize = 1 << 16;
/// No piece is larger: nodes write a quarter of a MiB at a time.
const PIECE_BYTES_MAX: usize = 64 << 20;

/// What a state machine wrote, every byte checked before it is given. That it ends is known only when its end was read.
#[derive(Debug)]
pub struct SnapshotContent<R> {
    file: R,
    piece: Bytes,
    /// Bytes of the pieces so far.
    total: u64,
    ended: bool,
}

impl<R: Read> SnapshotContent<R> {
    /// Reads the header: whose state, and what it stands for.
    pub fn open(mut file: R) -> io::Result<(GroupId, SnapshotMeta, Self)> {
        let mut header = vec![0; FIXED_HEADER_BYTES];
        file.read_exact(&mut header)?;
        let number =
            |at: usize| u64::from_be_bytes(header[at..at + 8].try_into().unwrap_or_default());
        let cluster = ClusterId(number(8));
        let membership = (number(FIXED_HEADER_BYTES - 8) as u32) as usize;
        if membership > MEMBERSHIP_BYTES_MAX {
            return Err(damaged("its header does not read"));
        }
        header.resize(FIXED_HEADER_BYTES + membership + 4, 0);
        file.read_exact(&mut header[FIXED_HEADER_BYTES..])?;
        let identity = Identity { cluster, node: NodeId(0), incarnation: Incarnation(0) };
        let (group, meta, _) =
            read_header(&header, &identity).ok_or(damaged("its header does not read"))?;
        Ok((group, meta, Self { file, piece: Bytes::new(), total: 0, ended: false }))
    }

    /// The next piece, or the end.
    fn advance(&mut self) -> io::Result<()> {
        let mut frame = vec![0; PIECE_HEADER_BYTES as usize];
        self.file.read_exact(&mut frame)?;
        let bytes = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
        if bytes > PIECE_BYTES_MAX {
            return Err(damaged("a piece has an impossible length"));
        }
        // The end has the total where pieces have their bytes.
        frame.resize(frame.len() + if bytes == 0 { 8 } else { bytes }, 0);
        self.file.read_exact(&mut frame[PIECE_HEADER_BYTES as usize..])?;
        if bytes == 0 {
            self.ended = frame[..] == end_frame(self.total);
            return if self.ended {
                Ok(())
            } else {
                Err(damaged("its end does not fit its content"))
            };
        }
        self.piece = read_piece(&frame.into()).ok_or(damaged("a piece fails its checksum"))?;
        self.total += self.piece.len() as u64;
        Ok(())
    }
}

impl<R: Read> Read for SnapshotContent<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            self.advance()?;
        }
        let bytes = self.piece.len().min(out.len());
        out[..bytes].copy_from_slice(&self.piece.split_to(bytes));
        Ok(bytes)
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the snapshot file is damaged: {what}"))
}
