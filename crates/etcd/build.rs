//! Compiles the protocol files in `proto/` with a compiler written in Rust: nobody needs `protoc`.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use prost::Message;

const FILES: [&str; 7] = [
    "kv.proto",
    "auth.proto",
    "lease.proto",
    "rpc.proto",
    "v3lock.proto",
    "v3election.proto",
    "health.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(FILES, ["proto"])?;
    let descriptors = Path::new(&env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(descriptors, files.encode_to_vec())?;
    // Keys and values share the buffer that a message was read from.
    prost_build::Config::new().bytes(["."]).compile_fds(files)?;
    Ok(())
}
