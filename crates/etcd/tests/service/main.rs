//! What one server tells its clients, on a log of its own: every proposal is applied at once, unless a test says otherwise.

mod auth;
mod calls;
mod house;
mod leases;
mod watches;
