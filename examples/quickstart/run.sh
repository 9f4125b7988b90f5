#!/usr/bin/env bash
# Runs the quickstart as `weir run` does, after saying where to look. From the environment: OUT,
# the directory for all data (quickstart-data beside this file), WEIR, the binary (weir), and the
# ports below.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
weir=${WEIR:-weir}
shown=${OUT:-$(dirname "$0")/quickstart-data}
given=${OUT:-}${GATEWAY_PORT:-}${ADMIN_PORT:-}${WEBHOOK_PORT:-}${WORKSPACE_CONFIG:-}
mkdir -p "$shown"
OUT=$(cd "$shown" && pwd)
GATEWAY_PORT=${GATEWAY_PORT:-8080}
ADMIN_PORT=${ADMIN_PORT:-8081}
WEBHOOK_PORT=${WEBHOOK_PORT:-8082}

# The webhook is called by the URL in workspaceConfig.json: with another port, a copy.
if [ -z "${WORKSPACE_CONFIG:-}" ]; then
	WORKSPACE_CONFIG=$here/workspaceConfig.json
	if [ "$WEBHOOK_PORT" != 8082 ]; then
		sed "s/:8082/:$WEBHOOK_PORT/" "$WORKSPACE_CONFIG" >"$OUT/workspaceConfig.json"
		WORKSPACE_CONFIG=$OUT/workspaceConfig.json
	fi
fi

# The other commands of weir read the config too, and so need the same environment, where it is
# not what the config says anyway.
for name in OUT GATEWAY_PORT ADMIN_PORT WEBHOOK_PORT WORKSPACE_CONFIG; do
	export "${name?}"
	printf 'export %s=%q\n' "$name" "${!name}"
done >"$OUT/env"
same=${given:+. $shown/env; }

cat <<TEXT
Four jobs run on made-up events. Ctrl-C stops; the next start goes on where this one ends.
See them move:  http://127.0.0.1:$ADMIN_PORT/

 1 collect    send an event yourself, and find it in both files a second later:
                curl -u website: -d '{"userId":"me","event":"Hello"}' http://127.0.0.1:$GATEWAY_PORT/v1/track
                grep Hello $shown/files/*.jsonl
 2 orders     each ends as one file in valid, error or orphan:
                ls $shown/orders/*
 3 lake       Parquet files, five seconds behind:
                $weir lake ls $shown/lake
                $weir lake head $shown/lake
 4 replicate    tail -f $shown/files/replica.log

 failures     $shown/failed/*.jsonl (empty, unless you send nonsense)
 queues       $same$weir queue ls --config $(dirname "$0")
 metrics      http://127.0.0.1:$ADMIN_PORT/metrics

TEXT

# On a terminal, Ctrl-C is for weir alone, so that whoever called this sees how it ends.
if [ -t 0 ]; then
	set -m
fi
status=0
"$weir" run "$here" || status=$?
exit "$status"
