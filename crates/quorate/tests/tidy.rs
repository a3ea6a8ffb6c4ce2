//! What a reviewer would otherwise say twice: the layering drawn in ARCHITECTURE.md, the purity of the core, and small
//! habits. Each message says what to do instead. If a check gets in the way, change the picture, the table and the
//! check in one commit: they are there to be seen, not obeyed.

#[path = "tidy/architecture.rs"]
mod architecture;
#[path = "tidy/promises.rs"]
mod promises;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/workspace.rs"]
mod workspace;

use architecture::Architecture;
use source::Source;
use workspace::Workspace;

/// The crates that may touch the world: sockets, files, clock, threads, the system's random source.
const WORLDS: [&str; 3] = ["server", "client", "quorate"];

/// Crates without which a crate cannot touch the world.
const IMPURE_DEPENDENCIES: [&str; 5] = ["tokio", "getrandom", "rand", "rustix", "libc"];

/// What a pure crate may not say, and what to do instead.
const IMPURE_WORDS: [(&str, &str); 12] = [
    ("Instant", "take `now: contracts::Time` as an argument; the driver has the clock"),
    (
        "SystemTime",
        "the time of day reaches a core as `Input::WallClock`, a command as its `unix_ms`",
    ),
    ("std::fs", "files are behind `storage::Disk`, which the driver implements"),
    ("std::thread", "a core is one value with one way in; threads belong to the driver"),
    ("std::process", "processes belong to `quorate`"),
    ("std::env", "settings are arguments"),
    ("TcpStream", "sockets belong to the driver; a core sees messages"),
    ("TcpListener", "sockets belong to the driver; a core sees messages"),
    ("UdpSocket", "sockets belong to the driver; a core sees messages"),
    ("tokio", "async belongs to the driver; a core has `step` and `deadline`"),
    ("getrandom", "take a seed at construction and draw from `contracts::Random`"),
    (
        "collections::HashMap",
        "its order differs from run to run: use BTreeMap, or rustc-hash where no order can leak",
    ),
];

const LINES_MAX: usize = 800;

/// How many promises there are of each kind, numbered from 1: what the specification says of Raft and of calls.
const PROMISES: [(&str, u32); 2] = [("RAFT", 25), ("RPC", 8)];

/// Fails with all complaints at once, each on a line of its own.
fn report(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n\n{}\n", complaints.join("\n"));
}

#[test]
fn every_crate_is_in_the_table_with_exactly_what_it_uses() {
    let (workspace, page) = (Workspace::load(), Architecture::load());
    let mut complaints = Vec::new();
    for (name, krate) in &workspace.crates {
        match page.table.get(name) {
            None => complaints.push(format!(
                "ARCHITECTURE.md: no row for crate `{name}` in the table: add one, with what it uses: {}",
                list(&krate.uses)
            )),
            Some(uses) if *uses != krate.uses => complaints.push(format!(
                "ARCHITECTURE.md: the table says that `{name}` uses {}, its Cargo.toml says {}: correct the row, \
                 or drop the dependency if it was not meant",
                list(uses),
                list(&krate.uses)
            )),
            Some(_) => {}
        }
    }
    let gone = page.table.keys().filter(|name| !workspace.crates.contains_key(*name));
    complaints.extend(
        gone.map(|name| format!("ARCHITECTURE.md: there is no crate `{name}`: remove its row")),
    );
    report(&complaints);
}

#[test]
fn every_crate_has_a_paragraph_and_says_what_is_absent() {
    let (workspace, page) = (Workspace::load(), Architecture::load());
    let mut complaints = Vec::new();
    for name in workspace.crates.keys() {
        match page.paragraphs.get(name) {
            None => complaints.push(format!("ARCHITECTURE.md: write a paragraph under `### {name}`")),
            Some(text) if !text.contains("Absent:") => complaints.push(format!(
                "ARCHITECTURE.md, `### {name}`: end with a sentence that begins with `Absent:` and tells what one would \
                 look for here in vain"
            )),
            Some(_) => {}
        }
    }
    report(&complaints);
}

#[test]
fn dependencies_point_down_the_picture() {
    let (workspace, page) = (Workspace::load(), Architecture::load());
    let mut complaints = Vec::new();
    for (name, krate) in &workspace.crates {
        if page.row_of(name).is_none() {
            complaints.push(format!("ARCHITECTURE.md: draw `{name}` in a row of the picture"));
        }
        for used in krate.uses.iter().filter(|used| !page.may_use(name, used)) {
            complaints.push(format!(
                "crates/{name} uses `{used}`, which is neither in a row below it nor at the end of an arrow in \
                 ARCHITECTURE.md's picture: move the shared words to `contracts`, or draw the arrow and say why"
            ));
        }
    }
    report(&complaints);
}

#[test]
fn pure_crates_cannot_touch_the_world() {
    let workspace = Workspace::load();
    let mut complaints = Vec::new();
    for (name, krate) in workspace.pure() {
        for used in IMPURE_DEPENDENCIES.iter().filter(|used| krate.external.contains(**used)) {
            complaints.push(format!(
                "crates/{name}/Cargo.toml: `{used}` touches the world; only {} may: put the pure part here and the \
                 rest into the driver",
                WORLDS.join(", ")
            ));
        }
        for file in krate.files("src").iter().map(|path| Source::read(path)) {
            for (word, instead) in IMPURE_WORDS {
                complaints.extend(
                    file.lines_with_word(word)
                        .map(|at| format!("{at}: `{word}` in a pure crate: {instead}")),
                );
            }
        }
    }
    report(&complaints);
}

#[test]
fn libraries_do_not_print() {
    let workspace = Workspace::load();
    let mut complaints = Vec::new();
    for (_, krate) in workspace.crates.iter().filter(|(name, _)| *name != "quorate") {
        for file in krate.files("src").iter().map(|path| Source::read(path)) {
            for word in ["println!", "eprintln!", "print!", "eprint!", "dbg!"] {
                complaints.extend(file.lines_with_word(word).map(|at| {
                    format!("{at}: `{word}` in a library: return the value, or tell a `tracing` event with fields")
                }));
            }
        }
    }
    report(&complaints);
}

#[test]
fn files_are_short_and_open_with_what_they_are() {
    let workspace = Workspace::load();
    let mut complaints = Vec::new();
    for krate in workspace.crates.values() {
        for file in
            krate.files("src").iter().chain(&krate.files("tests")).map(|path| Source::read(path))
        {
            if file.lines() > LINES_MAX {
                complaints.push(format!(
                    "{file}: {} lines: split it along a seam, {LINES_MAX} are the most",
                    file.lines()
                ));
            }
            if !file.text.starts_with("//!") {
                complaints.push(format!(
                    "{file}: open with `//!`: what the module is, its invariant, its source"
                ));
            }
        }
    }
    report(&complaints);
}

#[test]
fn every_script_opens_with_a_sentence() {
    let workspace = Workspace::load();
    let mut complaints = Vec::new();
    for krate in workspace.crates.values() {
        for path in krate.scripts() {
            let file = Source::read(&path);
            let first = file.text.lines().next().unwrap_or_default();
            // The sentence may go on over several comment lines.
            let sentence: String =
                file.text.lines().take_while(|line| line.starts_with('#')).collect();
            if !first.starts_with("# ") || !sentence.contains('.') {
                complaints.push(format!(
                    "{file}: open with `# ` and a sentence that says what the script shows"
                ));
            }
        }
    }
    report(&complaints);
}

#[test]
fn every_promise_is_shown_by_a_test() {
    let shown = promises::shown(&Workspace::load());
    let all = PROMISES
        .into_iter()
        .flat_map(|(kind, count)| (1..=count).map(move |number| format!("{kind}-{number}")));
    let complaint = |id: String| {
        format!(
            "{id}: no test names it: write `/// {id}: ...` above the one that shows it, or write that test"
        )
    };
    report(&all.filter(|id| !shown.contains(id)).map(complaint).collect::<Vec<_>>());
}

#[test]
fn every_dependency_has_a_reason() {
    let complaints: Vec<_> = Workspace::dependency_lines()
        .into_iter()
        .filter(|(_, line)| {
            line.split_once(" # ").is_none_or(|(_, reason)| reason.trim().len() < 8)
        })
        .map(|(number, line)| {
            format!("Cargo.toml:{number}: say behind ` # ` why we depend on it: {line}")
        })
        .collect();
    report(&complaints);
}

fn list<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "nothing of ours".to_owned() } else { names.join(", ") }
}
