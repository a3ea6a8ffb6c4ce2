//! ZooKeeper (Hunt et al., 2010): the znode tree as a state machine, and what one server does for
//! the clients connected to it.

pub mod command;
