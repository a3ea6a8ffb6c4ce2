//! Reads the pages that `pages` writes, and bbolt itself.

use std::io::{Read, Seek, SeekFrom};

use super::DbError;
use super::pages::{
    BRANCH, ENTRY_HEAD, IS_BUCKET, LEAF, MAGIC, META_BYTES, PAGE, PAGE_HEAD, VERSION, fnv_1a,
};

/// No tree is deeper: a branch has two pages below at least.
const DEPTH_MAX: usize = 64;
/// No page is larger, with those behind it: etcd takes no request of that size.
const NODE_BYTES_MAX: u64 = 1 << 30;

/// A database, of which whole trees are read.
pub struct Database<R> {
    file: R,
    page_bytes: u64,
    root: u64,
    pages: u64,
    /// How many pages a tree may still have: a damaged one may go in circles.
    left: u64,
}

/// Is given the key and the value of each entry.
type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), DbError> + 'a;

/// Is given the flags too.
type VisitAll<'a> = dyn FnMut(u32, &[u8], &[u8]) -> Result<(), DbError> + 'a;

/// The first page with its fields.
struct First {
    page_bytes: u32,
    root: u64,
    pages: u64,
    transaction: u64,
}

/// A page and those behind it that belong to it.
struct Node {
    id: u64,
    kind: u16,
    entries: usize,
    bytes: Vec<u8>,
}

/// An entry: flags and the page below, key, value.
struct Entry<'a> {
    flags: u32,
    below: u64,
    key: &'a [u8],
    value: &'a [u8],
}

impl<R: Read + Seek> Database<R> {
    /// Finds which root is in force.
    pub fn open(mut file: R) -> Result<Self, DbError> {
        let mut head = Vec::new();
        file.rewind()?;
        // The second of the first pages is where the first one says that a page ends; pages of other sizes exist.
        file.by_ref().take(1 << 17).read_to_end(&mut head)?;
        let sizes = [PAGE, 1 << 13, 1 << 14, 1 << 15, 1 << 16];
        let at = |offset: usize| head.get(offset + PAGE_HEAD..).and_then(First::read);
        let found = std::iter::once(0).chain(sizes).filter_map(at);
        let first = found.max_by_key(|first| first.transaction).ok_or(DbError::NoDatabase)?;
        Ok(Self {
            file,
            page_bytes: first.page_bytes.into(),
            root: first.root,
            pages: first.pages,
            left: 0,
        })
    }

    /// Visits the entries of a tree in their order; whether there is such a tree.
    pub fn visit(&mut self, name: &[u8], visit: &mut Visit<'_>) -> Result<bool, DbError> {
        let mut found = None;
        let mut find = |flags: u32, key: &[u8], value: &[u8]| {
            if flags & IS_BUCKET != 0 && key == name {
                found = Some(value.to_vec());
            }
            Ok(())
        };
        self.left = self.pages;
        self.walk(self.root, DEPTH_MAX, &mut find)?;
        let Some(value) = found else { return Ok(false) };
        let damaged = DbError::Damaged { page: self.root, what: "a tree without a root" };
        let root = value.first_chunk().map(|root| u64::from_le_bytes(*root)).ok_or(damaged)?;
        let mut each = |_: u32, key: &[u8], value: &[u8]| visit(key, value);
        if root == 0 {
            // A small tree is kept where its name is.
            let node = Node::read(self.root, value.get(16..).unwrap_or_default().to_vec())?;
            node.entries().try_for_each(|entry| {
                let Entry { flags, key, value, .. } = entry?;
                each(flags, key, value)
            })?;
        } else {
            self.left = self.pages;
            self.walk(root, DEPTH_MAX, &mut each)?;
        }
        Ok(true)
    }

    fn walk(&mut self, page: u64, depth: usize, visit: &mut VisitAll<'_>) -> Result<(), DbError> {
        let node = self.node(page)?;
        for entry in node.entries() {
            let Entry { flags, below, key, value } = entry?;
            if node.kind == LEAF {
                visit(flags, key, value)?;
                continue;
            }
            let deeper = depth.checked_sub(1).ok_or(node.damaged("its tree is too deep"))?;
            self.walk(below, deeper, visit)?;
        }
        Ok(())
    }

    fn node(&mut self, id: u64) -> Result<Node, DbError> {
        let damaged = |what| DbError::Damaged { page: id, what };
        if id < 2 || id >= self.pages {
            return Err(damaged("there is no such page"));
        }
        self.left = self.left.checked_sub(1).ok_or(damaged("its tree goes in circles"))?;
        let offset = id.checked_mul(self.page_bytes).ok_or(damaged("there is no such page"))?;
        self.file.seek(SeekFrom::Start(offset))?;
        let mut head = [0; PAGE_HEAD];
        self.file.read_exact(&mut head)?;
        let further = u64::from(u32_at(&head, 12).unwrap_or_default());
        let bytes = (further + 1) * self.page_bytes;
        if bytes > NODE_BYTES_MAX || u64_at(&head, 0) != Some(id) {
            return Err(damaged("its head does not fit it"));
        }
        let mut node = head.to_vec();
        let rest = bytes - PAGE_HEAD as u64;
        // Taken as it comes: a wrong length costs no more memory than there are bytes.
        if self.file.by_ref().take(rest).read_to_end(&mut node)? < rest as usize {
            return Err(damaged("it ends early"));
        }
        Node::read(id, node)
    }
}

impl First {
    fn read(page: &[u8]) -> Option<Self> {
        let meta = page.get(..META_BYTES)?;
        let whole = u32_at(meta, 0)? == MAGIC
            && u32_at(meta, 4)? == VERSION
            && u64_at(meta, META_BYTES - 8)? == fnv_1a(&meta[..META_BYTES - 8]);
        let first = Self {
            page_bytes: u32_at(meta, 8)?,
            root: u64_at(meta, 16)?,
            pages: u64_at(meta, 40)?,
            transaction: u64_at(meta, 48)?,
        };
        (whole && first.page_bytes as usize >= PAGE_HEAD + META_BYTES).then_some(first)
    }
}

impl Node {
    fn read(id: u64, bytes: Vec<u8>) -> Result<Self, DbError> {
        let damaged = |what| DbError::Damaged { page: id, what };
        let number = |at| bytes.get(at..at + 2).map(|two| u16::from_le_bytes([two[0], two[1]]));
        let (Some(kind), Some(entries)) = (number(8), number(10)) else {
            return Err(damaged("it ends early"));
        };
        if kind != LEAF && kind != BRANCH {
            return Err(damaged("it is of no kind that a tree has"));
        }
        Ok(Self { id, kind, entries: entries.into(), bytes })
    }

    fn damaged(&self, what: &'static str) -> DbError {
        DbError::Damaged { page: self.id, what }
    }

    fn entries(&self) -> impl Iterator<Item = Result<Entry<'_>, DbError>> {
        (0..self.entries).map(|number| {
            self.entry(number).ok_or_else(|| self.damaged("an entry is not within its page"))
        })
    }

    fn entry(&self, number: usize) -> Option<Entry<'_>> {
        let here = self.bytes.get(PAGE_HEAD + number * ENTRY_HEAD..)?;
        if self.kind == LEAF {
            let (begins, bytes) = (u32_at(here, 4)? as usize, u32_at(here, 8)? as usize);
            let (key, rest) = here.get(begins..)?.split_at_checked(bytes)?;
            let value = rest.get(..u32_at(here, 12)? as usize)?;
            return Some(Entry { flags: u32_at(here, 0)?, below: 0, key, value });
        }
        let (begins, bytes) = (u32_at(here, 0)? as usize, u32_at(here, 4)? as usize);
        let key = here.get(begins..)?.get(..bytes)?;
        Some(Entry { flags: 0, below: u64_at(here, 8)?, key, value: &[] })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|number| u32::from_le_bytes(*number))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|number| u64::from_le_bytes(*number))
}
