//! The workspace as `cargo metadata` tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Our crates by folder name (`raft`, not `quorate-raft`).
pub(crate) struct Workspace {
    pub(crate) crates: BTreeMap<String, Krate>,
}

pub(crate) struct Krate {
    folder: PathBuf,
    /// Crates of ours it uses outside tests.
    pub(crate) uses: BTreeSet<String>,
    /// Crates of others it uses outside tests.
    pub(crate) external: BTreeSet<String>,
}

impl Workspace {
    pub(crate) fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    pub(crate) fn load() -> Self {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
            .current_dir(Self::root())
            .output()
            .expect("cargo runs: it has just built this test");
        assert!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
        let packages = metadata["packages"].as_array().expect("cargo lists packages");
        Self {
            crates: packages
                .iter()
                .map(|package| (folder_name(package), Krate::from(package)))
                .collect(),
        }
    }

    /// The crates that own no socket, file, clock, thread or random source.
    pub(crate) fn pure(&self) -> impl Iterator<Item = (&String, &Krate)> {
        self.crates.iter().filter(|(name, _)| !super::WORLDS.contains(&name.as_str()))
    }

    /// Lines of the root's `[workspace.dependencies]` that name somebody else's crate, with their numbers.
    pub(crate) fn dependency_lines() -> Vec<(usize, String)> {
        let text = std::fs::read_to_string(Self::root().join("Cargo.toml"))
            .expect("the root has a Cargo.toml");
        let numbered = text.lines().enumerate().map(|(i, line)| (i + 1, line.to_owned()));
        numbered
            .skip_while(|(_, line)| line != "[workspace.dependencies]")
            .skip(1)
            .take_while(|(_, line)| !line.starts_with('['))
            .filter(|(_, line)| {
                line.contains('=') && !line.starts_with('#') && !line.starts_with("quorate-")
            })
            .collect()
    }
}

impl Krate {
    fn from(package: &Value) -> Self {
        let manifest =
            Path::new(package["manifest_path"].as_str().expect("a package has a manifest"));
        let dependencies =
            package["dependencies"].as_array().expect("a package has a list of dependencies");
        let names =
            dependencies.iter().filter(|d| d["kind"].is_null()).filter_map(|d| d["name"].as_str());
        let (ours, external): (Vec<_>, Vec<_>) =
            names.partition(|name| name.starts_with("quorate"));
        Self {
            folder: manifest.parent().expect("a manifest lies in a folder").to_owned(),
            uses: ours.into_iter().map(short).collect(),
            external: external.into_iter().map(str::to_owned).collect(),
        }
    }

    /// The Rust files below a folder of the crate, in order of their names.
    pub(crate) fn files(&self, below: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(&self.folder.join(below), "rs", &mut found);
        found.sort();
        found
    }

    /// The golden scripts of the crate.
    pub(crate) fn scripts(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(&self.folder.join("tests/scripts"), "txt", &mut found);
        found.sort();
        found
    }
}

fn folder_name(package: &Value) -> String {
    short(package["name"].as_str().expect("a package has a name"))
}

fn short(name: &str) -> String {
    name.strip_prefix("quorate-").unwrap_or(name).to_owned()
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if path.is_dir() {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}
