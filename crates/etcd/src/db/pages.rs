//! Pages, written one after the other, and trees built from sorted entries as they come.
//!
//! ```text
//! page    id 8 | kind 2 | entries 2 | further pages 4 | ...
//! leaf    (flags 4 | where its key begins, from here on 4 | bytes of the key 4 | of the value 4) ... | keys and values
//! branch  (where its key begins, from here on 4 | bytes of the key 4 | page 8) ... | keys: each the first one below
//! first   magic 4 | version 2 4 | bytes of a page 4 | 0 4 | root 8 | 0 8 | free 8 | pages 8 | transaction 8 | FNV-1a of that 8
//! ```
//!
//! A page that would be too full is written, and its first key goes up one level; so of each tree one page a level is in memory.
//! What does not fit into a page by itself takes further pages behind it.

use std::io::{self, Write};

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;
pub(super) const PAGE_HEAD: usize = 16;
pub(super) const ENTRY_HEAD: usize = 16;
pub(super) const MAGIC: u32 = 0xED0C_DAED;
pub(super) const VERSION: u32 = 2;
/// The first pages take this of theirs, the checksum included.
pub(super) const META_BYTES: usize = 64;

pub(super) const BRANCH: u16 = 0x01;
pub(super) const LEAF: u16 = 0x02;
const META: u16 = 0x04;
const FREE: u16 = 0x10;
/// A value that is a tree.
pub(super) const IS_BUCKET: u32 = 1;

/// The page that tells which are free.
const FREE_PAGE: u64 = 2;

/// A file being written.
pub(super) struct Pages<W> {
    out: W,
    next: u64,
}

/// What goes over the beginning of the file when all else is written.
pub(super) struct FirstPages {
    pub(super) bytes: Vec<u8>,
    /// Bytes of the file.
    pub(super) file_bytes: u64,
}

impl<W: Write> Pages<W> {
    /// Begins a file, with room for its first pages.
    pub(super) fn begin(mut out: W) -> io::Result<Self> {
        out.write_all(&[0; 2 * PAGE])?;
        let mut free = page_head(FREE_PAGE, FREE, 0, 0).to_vec();
        free.resize(PAGE, 0);
        out.write_all(&free)?;
        Ok(Self { out, next: FREE_PAGE + 1 })
    }

    /// Writes a node and gives its page.
    fn write(&mut self, node: &Node) -> io::Result<u64> {
        let id = self.next;
        let pages = node.bytes().div_ceil(PAGE);
        let mut bytes = Vec::with_capacity(pages * PAGE);
        let entries = node.entries.len() as u16;
        bytes.extend_from_slice(&page_head(id, node.kind, entries, pages as u32 - 1));
        node.write_to(&mut bytes);
        bytes.resize(pages * PAGE, 0);
        self.out.write_all(&bytes)?;
        self.next += pages as u64;
        Ok(id)
    }

    /// Ends the file, whose root is on this page.
    pub(super) fn finish(mut self, root: u64) -> io::Result<FirstPages> {
        self.out.flush()?;
        let bytes = [first_page(0, root, self.next), first_page(1, root, self.next)].concat();
        Ok(FirstPages { bytes, file_bytes: self.next * PAGE as u64 })
    }
}

fn page_head(id: u64, kind: u16, entries: u16, further: u32) -> [u8; PAGE_HEAD] {
    let mut head = [0; PAGE_HEAD];
    head[..8].copy_from_slice(&id.to_le_bytes());
    head[8..10].copy_from_slice(&kind.to_le_bytes());
    head[10..12].copy_from_slice(&entries.to_le_bytes());
    head[12..].copy_from_slice(&further.to_le_bytes());
    head
}

fn first_page(id: u64, root: u64, pages: u64) -> Vec<u8> {
    let mut meta = Vec::with_capacity(META_BYTES);
    for number in [MAGIC, VERSION, PAGE as u32, 0] {
        meta.extend_from_slice(&number.to_le_bytes());
    }
    for number in [root, 0, FREE_PAGE, pages, id] {
        meta.extend_from_slice(&number.to_le_bytes());
    }
    meta.extend_from_slice(&fnv_1a(&meta).to_le_bytes());
    let mut page = page_head(id, META, 0, 0).to_vec();
    page.extend_from_slice(&meta);
    page.resize(PAGE, 0);
    page
}

/// Fowler, Noll and Vo's hash of 64 bits, by which the first pages are known to be whole.
pub(super) fn fnv_1a(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// A page's content.
struct Node {
    kind: u16,
    entries: Vec<Entry>,
    /// Keys and values.
    data: Vec<u8>,
}

struct Entry {
    flags: u32,
    key_bytes: u32,
    value_bytes: u32,
    /// The page below, in a branch.
    below: u64,
}

impl Node {
    fn new(kind: u16) -> Self {
        Self { kind, entries: Vec::new(), data: Vec::new() }
    }

    fn bytes(&self) -> usize {
        PAGE_HEAD + self.entries.len() * ENTRY_HEAD + self.data.len()
    }

    /// Whether it has to be written before so much is added. A branch has two pages below at least: it must not go on for ever.
    fn is_full_for(&self, key: &[u8], value: &[u8]) -> bool {
        let least = if self.kind == LEAF { 1 } else { 2 };
        self.entries.len() >= least && self.bytes() + ENTRY_HEAD + key.len() + value.len() > PAGE
    }

    fn add(&mut self, flags: u32, key: &[u8], value: &[u8], below: u64) {
        let (key_bytes, value_bytes) = (key.len() as u32, value.len() as u32);
        self.entries.push(Entry { flags, key_bytes, value_bytes, below });
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
    }

    fn first_key(&self) -> Vec<u8> {
        self.data[..self.entries[0].key_bytes as usize].to_vec()
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        let mut begins = self.entries.len() * ENTRY_HEAD;
        for (number, entry) in self.entries.iter().enumerate() {
            let from_here = (begins - number * ENTRY_HEAD) as u32;
            if self.kind == LEAF {
                for number in [entry.flags, from_here, entry.key_bytes, entry.value_bytes] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
            } else {
                out.extend_from_slice(&from_here.to_le_bytes());
                out.extend_from_slice(&entry.key_bytes.to_le_bytes());
                out.extend_from_slice(&entry.below.to_le_bytes());
            }
            begins += (entry.key_bytes + entry.value_bytes) as usize;
        }
        out.extend_from_slice(&self.data);
    }
}

/// A tree being built from entries whose keys ascend. `levels[0]` are the leaves.
pub(super) struct Tree {
    levels: Vec<Node>,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { levels: vec![Node::new(LEAF)] }
    }

    /// Adds an entry behind all others.
    pub(super) fn add<W: Write>(
        &mut self,
        pages: &mut Pages<W>,
        key: &[u8],
        value: &[u8],
    ) -> io::Result<()> {
        self.add_at(0, pages, key, |node| node.add(0, key, value, 0), value)
    }

    /// Adds a tree, whose root is on this page, as an entry.
    pub(super) fn add_tree<W: Write>(
        &mut self,
        pages: &mut Pages<W>,
        name: &[u8],
        root: u64,
    ) -> io::Result<()> {
        let value = [root.to_le_bytes(), [0; 8]].concat();
        self.add_at(0, pages, name, |node| node.add(IS_BUCKET, name, &value, 0), &value)
    }

    fn add_at<W: Write>(
        &mut self,
        level: usize,
        pages: &mut Pages<W>,
        key: &[u8],
        add: impl FnOnce(&mut Node),
        value: &[u8],
    ) -> io::Result<()> {
        if self.levels[level].is_full_for(key, value) {
            self.write_up(level, pages)?;
        }
        add(&mut self.levels[level]);
        Ok(())
    }

    /// Writes a level's page, which goes up.
    fn write_up<W: Write>(&mut self, level: usize, pages: &mut Pages<W>) -> io::Result<()> {
        let kind = self.levels[level].kind;
        let node = std::mem::replace(&mut self.levels[level], Node::new(kind));
        let (key, page) = (node.first_key(), pages.write(&node)?);
        if level + 1 == self.levels.len() {
            self.levels.push(Node::new(BRANCH));
        }
        self.add_at(level + 1, pages, &key, |node| node.add(0, &key, &[], page), &[])
    }

    /// Writes what is left; gives the root's page.
    pub(super) fn finish<W: Write>(mut self, pages: &mut Pages<W>) -> io::Result<u64> {
        let mut level = 0;
        while level + 1 < self.levels.len() {
            self.write_up(level, pages)?;
            level += 1;
        }
        pages.write(&self.levels[level])
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Seek, SeekFrom};

    use super::*;
    use crate::db::read::Database;

    /// A file with one tree of these entries.
    fn file(entries: &[(Vec<u8>, Vec<u8>)]) -> Cursor<Vec<u8>> {
        let mut out = Cursor::new(Vec::new());
        let mut pages = Pages::begin(&mut out).unwrap();
        let mut tree = Tree::new();
        for (key, value) in entries {
            tree.add(&mut pages, key, value).unwrap();
        }
        let tree = tree.finish(&mut pages).unwrap();
        let mut root = Tree::new();
        root.add_tree(&mut pages, b"bucket", tree).unwrap();
        let root = root.finish(&mut pages).unwrap();
        let first = pages.finish(root).unwrap();
        out.seek(SeekFrom::Start(0)).unwrap();
        out.write_all(&first.bytes).unwrap();
        assert_eq!(out.get_ref().len() as u64, first.file_bytes);
        out
    }

    fn entries(count: usize, key_bytes: usize, value_bytes: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let key = |n: usize| format!("{n:0key_bytes$}").into_bytes();
        (0..count).map(|n| (key(n), vec![n as u8; n % (value_bytes + 1)])).collect()
    }

    /// KV-8: what was written is what is read, in its order: no entry, one, a few pages of them, so many that branches have branches, keys
    /// and values larger than a page.
    #[test]
    fn a_tree_comes_back_as_it_went() {
        for (count, key_bytes, value_bytes) in [
            (0, 8, 0),
            (1, 8, 0),
            (300, 8, 100),
            (60_000, 17, 30),
            (50, 9, 20_000),
            (40, 6_000, 10),
        ] {
            let entries = entries(count, key_bytes, value_bytes);
            let mut database = Database::open(file(&entries)).unwrap();
            let mut found = Vec::new();
            let mut visit = |key: &[u8], value: &[u8]| {
                found.push((key.to_vec(), value.to_vec()));
                Ok(())
            };
            assert!(database.visit(b"bucket", &mut visit).unwrap());
            assert!(found == entries, "{count} entries");
            assert!(!database.visit(b"other", &mut |_, _| Ok(())).unwrap());
        }
    }

    /// The smallest file, byte by byte: bbolt's own tools read it (`interop/etcd_snapshot.py`).
    #[test]
    fn the_bytes_are_these() {
        let file = file(&[(b"k".to_vec(), b"vv".to_vec())]).into_inner();
        assert_eq!(file.len(), 5 * PAGE);
        let leaf = [3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0];
        assert_eq!(file[3 * PAGE..][..16], leaf, "page 3 is a leaf with one entry");
        let entry = [0, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0];
        assert_eq!(file[3 * PAGE + 16..][..16], entry);
        assert_eq!(file[3 * PAGE + 32..][..4], *b"kvv\0");
        let entry = [1, 0, 0, 0, 16, 0, 0, 0, 6, 0, 0, 0, 16, 0, 0, 0];
        assert_eq!(file[4 * PAGE + 16..][..16], entry, "the root names a tree");
        assert_eq!(file[4 * PAGE + 32..][..14], *b"bucket\x03\0\0\0\0\0\0\0");
        let meta = [0xed, 0xda, 0x0c, 0xed, 2, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 4];
        assert_eq!(file[16..][..17], meta, "magic, version, bytes of a page, flags, root");
        assert_eq!(fnv_1a(b"a"), 0xaf63_dc4c_8601_ec8c, "as its authors publish it");
    }

    /// Damage is told, wherever it is, and memory does not follow a wrong length.
    #[test]
    fn damage_is_an_error_and_not_a_panic() {
        let entries = entries(300, 8, 100);
        let whole = file(&entries).into_inner();
        for at in (0..whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            if let Ok(mut database) = Database::open(Cursor::new(bytes)) {
                let _ = database.visit(b"bucket", &mut |_, _| Ok(())); // whichever it is: it ends
            }
        }
        for bytes in [0, 50, 100, PAGE, 2 * PAGE, 4 * PAGE] {
            let cut = Database::open(Cursor::new(whole[..bytes].to_vec()));
            let read = cut.and_then(|mut cut| cut.visit(b"bucket", &mut |_, _| Ok(())));
            assert!(read.is_err(), "{bytes} bytes");
        }
    }
}
