//! What is known of one stream (RFC 9113, section 5): which ends are open, its windows, and what waits to be sent.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::fields::Field;

/// How far the peer has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Theirs {
    /// A client's stream that has no response yet.
    Awaited,
    /// Its head is here.
    Begun,
    /// It has said all.
    Ended,
}

/// What follows the data that waits.
#[derive(Debug)]
pub(crate) enum End {
    /// There may be more.
    Open,
    /// Nothing.
    Plain,
    /// These fields; they are packed when it is their turn, for the order of blocks matters.
    Trailers(Vec<(String, Vec<u8>, bool)>),
}

impl End {
    pub(crate) fn trailers(fields: &[Field<'_>]) -> Self {
        let owned = |field: &Field<'_>| (field.name.to_string(), field.value.to_vec(), field.keep);
        Self::Trailers(fields.iter().map(owned).collect())
    }
}

/// Bytes that the peer may still send, and those that were taken and not allowed anew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    size: u32,
    left: i64,
    taken: u32,
}

impl Window {
    pub(crate) fn new(size: u32) -> Self {
        Self { size, left: i64::from(size), taken: 0 }
    }

    /// So many bytes came; whether they were allowed.
    #[must_use]
    pub(crate) fn came(&mut self, bytes: usize) -> bool {
        self.left -= bytes as i64;
        self.left >= 0
    }

    /// So many of them were taken; what to allow anew, if it is worth a frame.
    pub(crate) fn taken(&mut self, bytes: usize) -> Option<u32> {
        self.taken += u32::try_from(bytes).unwrap_or(u32::MAX);
        if self.taken < self.size / 2 {
            return None;
        }
        let allowed = std::mem::take(&mut self.taken);
        self.left += i64::from(allowed);
        Some(allowed)
    }
}

/// One stream that is not closed.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) theirs: Theirs,
    /// We have sent all.
    pub(crate) ours_ended: bool,
    pub(crate) receiving: Window,
    /// What a request's or response's body must still have, if its head said so.
    pub(crate) length_left: Option<u64>,
    /// Bytes that we may send; negative when settings took some back.
    pub(crate) send_window: i64,
    /// Data for which there was no window, and its end.
    pub(crate) queue: VecDeque<Bytes>,
    pub(crate) end: End,
    /// It is in the connection's line of those that could send.
    pub(crate) in_line: bool,
    /// Data of it could not be sent at once, and who gave it wants to hear when it is.
    pub(crate) has_waited: bool,
}

impl Stream {
    pub(crate) fn new(theirs: Theirs, receive_window: u32, send_window: i64) -> Self {
        Self {
            theirs,
            ours_ended: false,
            receiving: Window::new(receive_window),
            length_left: None,
            send_window,
            queue: VecDeque::new(),
            end: End::Open,
            in_line: false,
            has_waited: false,
        }
    }

    /// Something of ours waits.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.queue.is_empty() || (!self.ours_ended && !matches!(self.end, End::Open))
    }

    /// So many bytes of a body came; whether that fits the length that was promised.
    #[must_use]
    pub(crate) fn body(&mut self, bytes: usize, end: bool) -> bool {
        let Some(left) = &mut self.length_left else { return true };
        match left.checked_sub(bytes as u64) {
            Some(rest) => {
                *left = rest;
                !end || rest == 0
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 6.9: a frame for every byte would cost more than the bytes.
    #[test]
    fn a_window_is_given_back_by_halves() {
        let mut window = Window::new(100);
        assert!(window.came(100));
        assert_eq!(window.taken(49), None);
        assert_eq!(window.taken(1), Some(50));
        assert!(window.came(50));
        assert!(!window.came(1), "more than was allowed");
    }
}
