//! The real storage on a disk that does everything disks do (RAFT-15, RAFT-16, RAFT-17).

mod crashes;
mod damage;
mod failures;
mod full;
mod node;
