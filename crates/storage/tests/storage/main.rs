//! The storage, on a disk that dies, fails and rots.

mod held;
mod log;
mod restarts;
mod room;
mod snapshots;
mod support;
