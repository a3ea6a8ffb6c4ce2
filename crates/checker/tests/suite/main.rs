//! The checker as a whole: public histories with known verdicts, a brute-force checker beside it, the textbook cases.

mod brute_force;
mod generate;
mod models;
mod public_histories;
