//! The checker as a whole: public histories with known verdicts, a brute-force checker beside it, the textbook cases.

mod brute_force;
mod engines;
mod formats;
mod generate;
mod models;
mod promises;
mod public_histories;
mod textbook;
