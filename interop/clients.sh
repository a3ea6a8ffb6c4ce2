#!/usr/bin/env bash
# clients.sh BINARY [CLIENT...]: other people's clients against three real processes, with the leader killed in between.
# Clients are java, curator, c, node, rust, kafka; all of them by default. Each gets a cluster of its own. The same programs pass
# against Apache's ZooKeeper. Ends with `N passed, M failed`.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
binary=$(readlink -f "${1:?clients.sh BINARY [CLIENT...]}"); shift
[ $# -gt 0 ] || set -- java curator c node rust kafka
place=$("$root/.ci/setup-clients" "$@") || exit 1
export PYTHONDONTWRITEBYTECODE=1 NODE_PATH=$place/node/node_modules
quiet="-Xmx256m -Dorg.slf4j.simpleLogger.defaultLogLevel=off"
passed=0 failed=0 bad=0

# What each client runs, with the cluster's addresses in $HOSTS.
command_of() {
  case "$1" in
  java) echo "java $quiet -cp '$place/java/classes:$place/java/jars/*' Basics \$HOSTS" ;;
  curator) echo "java $quiet -cp '$place/java/classes:$place/java/jars/*' Recipes \$HOSTS" ;;
  c) echo "'$place/c/basics' \$HOSTS && '$root/interop/c/cli_mt.sh' \$HOSTS" ;;
  node) echo "node '$root/interop/node/basics.js' \$HOSTS" ;;
  rust) echo "'$place/rust/debug/quorate-interop' \$HOSTS" ;;
  kafka) echo "python3 '$root/interop/kafka/broker.py' --place '$place/kafka' --hosts \$HOSTS" ;;
  *) echo "clients.sh: no client '$1'; there are java, curator, c, node, rust, kafka" >&2; exit 64 ;;
  esac
}

for client in "$@"; do
  command=$(command_of "$client") || exit 64
  echo "--- $client"
  out=$(mktemp)
  python3 "$root/interop/with_cluster.py" --quorate "$binary" -- sh -c "
    HOSTS=\$1 export HOSTS
    export LEADER_KILL=\"python3 '$root/interop/leader.py' kill --quorate '$binary' --dir '\$2' >/dev/null\"
    export LEADER_START=\"python3 '$root/interop/leader.py' start --quorate '$binary' --dir '\$2' >/dev/null\"
    timeout -k 10 600 sh -c \"$command\"" sh '{hosts}' '{dir}' 2>"$out.stderr" | tee "$out"
  [ "${PIPESTATUS[0]}" = 0 ] || { bad=1; grep -v '^\s*at ' "$out.stderr" | tail -20; }
  counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$out")
  [ -n "$counts" ] || { echo "$client did not reach its end"; bad=1; }
  while read -r p _ f _; do
    passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0}))
  done <<<"$counts"
  rm -f "$out" "$out.stderr"
done
echo "--- clients"
echo "$passed passed, $failed failed"
[ $bad = 0 ] && [ $failed = 0 ] && [ $passed -gt 0 ]
