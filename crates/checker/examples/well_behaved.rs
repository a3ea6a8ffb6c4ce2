//! Writes a long history of a map that works, as JSON lines on standard output: what `.ci/million` measures the checker with.
//!
//! `well_behaved OPERATIONS CLIENTS KEYS unique|few`: are values unique, or are there few, so that reads do not tell which write they
//! saw?
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

#[path = "../tests/suite/generate.rs"]
#[allow(dead_code, reason = "the suite uses the rest")]
mod generate;

use std::error::Error;

use quorate_checker::formats::json_lines;
use quorate_checker::models::Kv;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [operations, clients, keys, values] = &arguments[..] else {
        return Err("well_behaved OPERATIONS CLIENTS KEYS unique|few".into());
    };
    let (operations, clients, keys) = (operations.parse()?, clients.parse()?, keys.parse()?);
    let history = generate::well_behaved(operations, clients, keys, values == "unique");
    print!("{}", json_lines::write(&Kv::default(), &history));
    Ok(())
}
