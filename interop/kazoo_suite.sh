#!/usr/bin/env bash
# kazoo_suite.sh RUNNER BINARY [pytest arguments]: kazoo's own test-suite, by RUNNER (rivals/kazoo-suite/run.sh), against three
# nodes as interop/kazoo.toml makes them; servers are killed and started, TLS, SASL, reconfig and read-only mode included.
# The last line says how many passed, failed and were skipped; more skips than SKIPS_MAX (4, as with ZooKeeper 3.8) fail too.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${CLUSTER_HOSTS:-}" ]; then
  runner=$(readlink -f "$1") binary=$2; shift 2
  exec "${PYTHON:-python3}" "$here/with_cluster.py" --quorate "$binary" --config "$here/kazoo.toml" -- "$0" "$runner" "$@"
fi
runner=$1; shift
export QUORATE_TLS_DIR=$here/tls QUORATE_TLS_HOSTS=$CLUSTER_TLS_HOSTS QUORATE_SASL=1 QUORATE_READONLY=1
export QUORATE_STOP=$CLUSTER_STOP QUORATE_START=$CLUSTER_START
said=$("$runner" "$CLUSTER_HOSTS" "$@"); status=$?
echo "$said"
skipped=$(sed -n 's/.*skipped=\([0-9]*\).*/\1/p' <<<"$said" | tail -1)
# A selection leaves out what it leaves out.
[ $# -gt 0 ] || [ "${skipped:-99}" -le "${SKIPS_MAX:-4}" ] || { echo "more than ${SKIPS_MAX:-4} tests were skipped"; exit 1; }
exit $status
