// What the stream tells, put in order: groups, their members, and who leads. Pure.

/** The names of the groups, in the order in which nodes tell of them. */
export function groupNames(cluster) {
  return [...new Set(cluster.nodes.flatMap((node) => node.groups.map((group) => group.name)))];
}

/** All members with what they say of a group, `null` where nobody answers, and what the list of members says of them, `null` if they left. */
export function membersOf(cluster, name) {
  const known = cluster.nodes.map((node) => ({ id: node.id, node, group: node.groups.find((group) => group.name === name) ?? null }));
  const silent = cluster.unreachable.map((id) => ({ id, node: null, group: null }));
  const all = [...known, ...silent].map((member) => ({ ...member, listed: cluster.members[member.id] ?? null }));
  return all.sort((a, b) => a.id - b.id);
}

/** The member that leads; of two that think so, the one of the later term. */
export function leading(members) {
  const claims = members.filter((member) => member.group?.role === "leader");
  return claims.sort((a, b) => b.group.term - a.group.term)[0] ?? null;
}
