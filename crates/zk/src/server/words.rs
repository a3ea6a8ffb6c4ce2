//! Which four-letter words there are, and which of them whoever reaches the clients' port may ask (ZooKeeper's
//! `4lw.commands.whitelist`). Administrators ask by HTTP, where the list does not count.

use std::collections::BTreeSet;

/// A word.
pub type Word = [u8; 4];

/// All words that are answered.
const ALL: [&Word; 15] = [
    b"ruok", b"srvr", b"stat", b"mntr", b"envi", b"conf", b"isro", b"cons", b"dump", b"dirs",
    b"wchs", b"srst", b"crst", b"wchc", b"wchp",
];
/// Those that take as long as there are watches, and tell what they are on: closed unless asked for.
const CLOSED: [&Word; 2] = [b"wchc", b"wchp"];

/// The words that clients may ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenWords(BTreeSet<Word>);

impl Default for OpenWords {
    /// The safe ones.
    fn default() -> Self {
        Self(ALL.into_iter().filter(|word| !CLOSED.contains(word)).copied().collect())
    }
}

impl OpenWords {
    /// Those of a list, `*` for all.
    ///
    /// # Errors
    /// The first one that is no word.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut open = BTreeSet::new();
        for name in names {
            match ALL.into_iter().find(|word| word.as_slice() == name.as_bytes()) {
                Some(word) => drop(open.insert(*word)),
                None if name == "*" => open.extend(ALL.into_iter().copied()),
                None => return Err(name.to_string()),
            }
        }
        Ok(Self(open))
    }

    /// Whether a client may ask it.
    pub fn contains(&self, word: Word) -> bool {
        self.0.contains(&word)
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ZK-18: safe words are open by default; a list opens what it names, and nothing else.
    #[test]
    fn words_are_open_as_the_list_says() {
        let safe = OpenWords::default();
        assert!(safe.contains(*b"ruok") && safe.contains(*b"mntr") && !safe.contains(*b"wchc"));
        let few = OpenWords::named(["ruok", "wchp"]).unwrap();
        assert!(few.contains(*b"wchp") && !few.contains(*b"mntr"));
        assert!(OpenWords::named(["*"]).unwrap().contains(*b"wchc"));
        assert_eq!(OpenWords::named(["ruok", "boom"]), Err("boom".to_string()));
        assert_eq!(OpenWords::named([]).unwrap().names(), [""; 0]);
    }
}
