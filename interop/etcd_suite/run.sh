#!/usr/bin/env bash
# run.sh BINARY [PATTERN]: etcd 3.4's own end-to-end tests of its v3 client (TestCtlV3*), with Debian's etcdctl, against our binary in
# etcd's place. Without the binary (run.sh --reference [PATTERN]) against Debian's etcd, for the bar.
# The tests start and stop their own members on ports from 20000 on, so two runs must not overlap; ETCD_SUITE_DIR keeps what was built.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
binary=${1:?run.sh BINARY|--reference [PATTERN]} pattern=${2:-^TestCtlV3}
work=${ETCD_SUITE_DIR:-${TMPDIR:-/tmp}/quorate-etcd-suite}
sources=/usr/share/gocode/src/go.etcd.io/etcd
mkdir -p "$work/bin" "$work/run"

# Those would wait for ever: a line of known.txt that begins with "!".
left_out=$(sed -n 's/^!\(TestCtlV3[^ ]*\).*/\1/p' "$here/known.txt")
installed() { dpkg -s "$@" >/dev/null 2>&1; }
packages="golang-etcd-server-dev golang-go etcd-client etcd-server"
# shellcheck disable=SC2086
installed $packages || apt-get install -y --no-install-recommends $packages >"$work/apt.txt" 2>&1 || { tail -5 "$work/apt.txt"; exit 1; }
if [ ! -x "$work/etcd-e2e.test" ]; then
  GO111MODULE=off GOFLAGS='' GOTOOLCHAIN=local GOPATH=/usr/share/gocode /usr/bin/go test -c -o "$work/etcd-e2e.test" go.etcd.io/etcd/tests/e2e || exit 1
fi
ln -sf /usr/bin/etcdctl "$work/bin/etcdctl"
if [ "$binary" = --reference ]; then
  ln -sf /usr/bin/etcd "$work/bin/etcd"
  left_out=
else
  QUORATE=$(readlink -f "$binary"); export QUORATE
  ln -sf "$here/etcd" "$work/bin/etcd"
fi
cd "$work/run" || exit 1
tests=$("$work/etcd-e2e.test" -test.list "$pattern" | grep '^Test' | grep -vxF "${left_out:-none}")
pattern="^($(paste -sd '|' <<<"$tests"))\$"
"$work/etcd-e2e.test" -bin-dir "$work/bin" -cert-dir "$sources/integration/fixtures" -test.timeout 60m -test.run "$pattern" -test.v >"$work/output.txt" 2>&1
grep -E '^--- (PASS|FAIL)' "$work/output.txt" | awk '{print $3}' | sort >"$work/all.txt"
grep '^--- FAIL' "$work/output.txt" | awk '{print $3}' | sort >"$work/failed.txt"
unexpected=$(comm -23 "$work/failed.txt" <(sed -n 's/^\(TestCtlV3[^ ]*\).*/\1/p' "$here/known.txt" | sort))
passed=$(($(wc -l <"$work/all.txt") - $(wc -l <"$work/failed.txt")))
for name in $unexpected; do echo "FAILED $name"; done
echo "$passed passed, $(wc -l <"$work/failed.txt") failed, of which known: $(comm -12 "$work/failed.txt" <(sed -n 's/^\(TestCtlV3[^ ]*\).*/\1/p' "$here/known.txt" | sort) | wc -l), $(wc -w <<<"$left_out") left out; the output is in $work/output.txt"
[ "$passed" -gt 0 ] && [ -z "$unexpected" ]
