//! ZooKeeper's files: found, decompressed, and handed to the parser.

use std::io::{self, Read};
use std::path::Path;

use quorate_zk::command::Zxid;
use quorate_zk::import::{Files, ImportedTree, choose, read_log, read_snapshot};

use super::report::Report;
use super::version_2;
use crate::failure::{Failure, Kind};

const WHAT: &str = "read ZooKeeper's files";

/// Reads the newest whole snapshot of a directory, and replays the logs that follow it.
pub(super) fn read(
    snapshots: &Path,
    logs: Option<&Path>,
) -> Result<(ImportedTree, Report), Failure> {
    let snapshots = version_2(snapshots);
    let logs = logs.map_or_else(|| snapshots.clone(), version_2);
    let mut files = list(&snapshots)?;
    files.logs = list(&logs)?.logs;
    let mut report = Report::default();
    let (zxid, mut tree) = newest_snapshot(&snapshots, &files, &mut report)?;
    refuse_gap(&files, zxid)?;
    for (_, name) in files.logs_after(zxid) {
        let path = logs.join(name);
        let bytes = std::fs::read(&path).map_err(|error| unreadable(&path, error))?;
        let read = read_log(zxid, &bytes, &mut tree).map_err(|bad| {
            let cause = format!("{}, {bad}", path.display());
            let help = "copy the files of another server of the ensemble; nothing was written";
            Failure::new(Kind::BadInput, WHAT, cause, help)
        })?;
        let mut line = format!(
            "replayed  {name}: {} transactions, {} more are in the snapshot",
            read.replayed, read.skipped
        );
        if let Some(at) = read.torn_at {
            line += &format!("; a torn record at byte {at} was left out");
        }
        report.lines.push(line);
    }
    Ok((tree, report))
}

fn list(directory: &Path) -> Result<Files, Failure> {
    let entries = std::fs::read_dir(directory).map_err(|error| unreadable(directory, error))?;
    Ok(choose(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())))
}

fn unreadable(path: &Path, error: io::Error) -> Failure {
    let cause = format!("{}: {error}", path.display());
    Failure::new(Kind::Data, WHAT, cause, "give ZooKeeper's dataDir with --from")
}

/// A damaged snapshot is told, and the one before it is taken: the logs lead on from there just as well.
fn newest_snapshot(
    directory: &Path,
    files: &Files,
    report: &mut Report,
) -> Result<(Zxid, ImportedTree), Failure> {
    let mut cause = format!("{} holds no snapshot", directory.display());
    for (zxid, name) in &files.snapshots {
        let path = directory.join(name);
        let bytes = decompressed(&path).map_err(|error| unreadable(&path, error))?;
        match read_snapshot(*zxid, &bytes) {
            Ok(tree) => {
                report.lines.push(format!("read      {name}: {} znodes", tree.znodes.len()));
                return Ok((*zxid, tree));
            }
            Err(bad) => {
                cause = format!("{}, {bad}", path.display());
                report.lines.push(format!("damaged   {name}, {bad}: the one before it is taken"));
            }
        }
    }
    let help =
        "give ZooKeeper's dataDir with --from; another server of the ensemble has the same files";
    Err(Failure::new(Kind::BadInput, WHAT, cause, help))
}

/// Within an epoch zxids have no gaps: a log that begins later than the snapshot ends is not the next one.
fn refuse_gap(files: &Files, snapshot: Zxid) -> Result<(), Failure> {
    match files.logs_after(snapshot).first() {
        Some((first, name))
            if first.0 > snapshot.0 + 1 && first.0 >> 32 == snapshot.0 >> 32 && snapshot.0 != 0 =>
        {
            let cause = format!(
                "the snapshot ends with 0x{:x}, and {name} is the first log after it",
                snapshot.0
            );
            let help =
                "a log is missing; is it in a dataLogDir of its own? give it with --log-from";
            Err(Failure::new(Kind::BadInput, WHAT, cause, help))
        }
        _ => Ok(()),
    }
}

/// A file's content; its name tells how it is compressed.
fn decompressed(path: &Path) -> io::Result<Vec<u8>> {
    let file = std::fs::read(path)?;
    let mut content = Vec::new();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => {
            flate2::read::MultiGzDecoder::new(&file[..]).read_to_end(&mut content)?;
            Ok(content)
        }
        Some("snappy") => unsnapped(&file),
        _ => Ok(file),
    }
}

/// What snappy-java's stream holds: a header of 16 bytes, then blocks with their compressed length before each.
fn unsnapped(mut stream: &[u8]) -> io::Result<Vec<u8>> {
    const HEADER_BYTES: usize = 16;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "no snappy stream");
    if !stream.starts_with(b"\x82SNAPPY\0") {
        return Err(bad());
    }
    stream = stream.get(HEADER_BYTES..).ok_or_else(bad)?;
    let mut content = Vec::new();
    while let Some((length, rest)) = stream.split_first_chunk() {
        let block = rest.get(..u32::from_be_bytes(*length) as usize).ok_or_else(bad)?;
        content.extend(snap::raw::Decoder::new().decompress_vec(block).map_err(io::Error::other)?);
        stream = &rest[block.len()..];
    }
    if stream.is_empty() { Ok(content) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// ZooKeeper's two ways to compress give the same content; a cut stream gives none.
    #[test]
    fn compressed_snapshots_are_read() {
        let directory = std::env::temp_dir().join(format!("quorate-gz-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let content = b"ZKSN and so on ".repeat(5_000);
        let (gz, snappy) = (directory.join("snapshot.1.gz"), directory.join("snapshot.2.snappy"));
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&content).unwrap();
        std::fs::write(&gz, encoder.finish().unwrap()).unwrap();
        let mut stream = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
        for block in content.chunks(32 << 10) {
            let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
            stream.extend((block.len() as u32).to_be_bytes());
            stream.extend(block);
        }
        std::fs::write(&snappy, &stream).unwrap();
        assert!(decompressed(&gz).unwrap() == content);
        assert!(decompressed(&snappy).unwrap() == content);
        assert!(unsnapped(&stream[..stream.len() - 1]).is_err());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
