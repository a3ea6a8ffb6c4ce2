//! The rules that a znode's path must keep (ZooKeeper's `PathUtils`).

/// Whether a path is well formed: it begins with a slash and does not end with one, no element is empty,
/// `.` or `..`, and no character is a control character, a surrogate, a private one, or not a character.
pub(crate) fn is_valid(path: &str) -> bool {
    match path.strip_prefix('/') {
        None => false,
        Some("") => true,
        Some(rest) => rest.split('/').all(is_valid_element),
    }
}

fn is_valid_element(element: &str) -> bool {
    !element.is_empty() && element != "." && element != ".." && element.chars().all(is_allowed)
}

fn is_allowed(c: char) -> bool {
    // Java sees UTF-16: a character beyond the basic plane is a pair of surrogates.
    !matches!(c, '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// What is looked up by path, and never iterated over: no order can leak. Its hash withstands names that
/// clients choose to collide.
pub(crate) type ByPath<K, V> = hashbrown::HashMap<K, V>;

/// The parent of a path; the root has none.
pub(crate) fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('/')? {
        (_, "") => None,
        ("", _) => Some("/"),
        (parent, _) => Some(parent),
    }
}

/// The last element.
pub(crate) fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_paths_are_valid() {
        for good in ["/", "/a", "/a/b", "/a.b", "/...", "/ü", "/a b"] {
            assert!(is_valid(good), "{good:?}");
        }
        for bad in [
            "",
            "a",
            "/a/",
            "//",
            "/a//b",
            "/.",
            "/a/..",
            "/a\u{0}",
            "/\u{7f}",
            "/\u{f8ff}",
            "/\u{1f600}",
        ] {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }

    #[test]
    fn parents_and_names() {
        assert_eq!((parent("/"), parent("/a"), parent("/a/b")), (None, Some("/"), Some("/a")));
        assert_eq!((name("/a"), name("/a/b")), ("a", "b"));
    }
}
