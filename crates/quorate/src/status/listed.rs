//! Who belongs to the cluster may have changed since somebody wrote down where its nodes are: the list of the members,
//! which the nodes hold, has the last word.

use quorate_server::ClusterStatus;

use super::Row;
use crate::cluster::ask_cluster;

/// The rows of those who were asked, put right by the node among them that knows the newest list. As long as nothing
/// was ever changed nobody is asked more.
pub(super) fn complete(rows: Vec<Row>) -> Vec<Row> {
    let lists =
        rows.iter().filter_map(|row| Some((row.status.as_ref()?.roster_version, row.admin?)));
    match lists.max_by_key(|(version, _)| *version) {
        Some((version, admin)) if version > 0 => match ask_cluster(admin) {
            Ok(cluster) => put_right(rows, cluster),
            Err(_) => rows,
        },
        _ => rows,
    }
}

/// Members that nobody named are added, as that node heard of them; who was removed is shown only while it runs.
fn put_right(mut rows: Vec<Row>, mut cluster: ClusterStatus) -> Vec<Row> {
    for row in &mut rows {
        row.removed = row.id.is_some_and(|id| !cluster.members.contains_key(&id));
    }
    rows.retain(|row| !row.removed || row.status.is_some());
    for (id, listed) in &cluster.members {
        if rows.iter().all(|row| row.id != Some(*id)) {
            let at = cluster.nodes.iter().position(|node| node.id == *id);
            rows.push(Row {
                id: Some(*id),
                admin: listed.admin.as_ref().and_then(|admin| admin.parse().ok()),
                status: at.map(|at| cluster.nodes.swap_remove(at)),
                removed: false,
            });
        }
    }
    rows.sort_by_key(|row| row.id);
    rows
}

#[cfg(test)]
mod tests {
    use quorate_server::{MemberListed, NodeStatus};

    use super::*;

    fn node(id: u64) -> NodeStatus {
        NodeStatus { id, roster_version: 3, ..NodeStatus::default() }
    }

    fn row(id: u64, answers: bool) -> Row {
        Row { id: Some(id), admin: None, status: answers.then(|| node(id)), removed: false }
    }

    /// n1 was removed and runs, n2 was removed and is gone; n4 was added and runs, n5 was added and has not started.
    #[test]
    fn members_are_those_of_the_list_whoever_was_named() {
        let member = |id| (id, MemberListed { votes: true, ..MemberListed::default() });
        let cluster = ClusterStatus {
            nodes: vec![node(3), node(4)],
            unreachable: vec![5],
            members: [3, 4, 5].into_iter().map(member).collect(),
            ..ClusterStatus::default()
        };
        let rows = put_right(vec![row(1, true), row(2, false), row(3, true)], cluster);
        let told = |row: &Row| (row.id.unwrap_or(0), row.status.is_some(), row.removed);
        let expected = [(1, true, true), (3, true, false), (4, true, false), (5, false, false)];
        assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), expected);
    }
}
