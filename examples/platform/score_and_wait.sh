#!/bin/sh
# Scores 5,000 responses and waits for a person's decision: sh score_and_wait.sh (needs curl and jq)
set -eu
url=${SCOREMUX_URL:-http://127.0.0.1:8005}
run=$(date +%s)-$$ # ids are new in each run; the sandbox takes the outcome from their beginning
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
set -- --silent --show-error --fail-with-body ${SCOREMUX_TOKEN:+--header "Authorization: Bearer $SCOREMUX_TOKEN"}

seq 0 4999 | jq --compact-output --arg run "$run" '{task: "sandbox-1", text: "It hands out addresses.",
    id: "\({"0": "limited", "1": "human"}["\(.)"] // "machine")-\($run)-\(.)"}' | split -l 512 - "$folder/rows."
for rows in "$folder"/rows.*; do jq --slurp '{rows: .}' "$rows" > "$rows.json"; done
# Four requests at once; --retry waits as Retry-After says.
ls "$folder"/*.json | xargs -P 4 -I '{}' curl "$@" --retry 5 --json '@{}' --output '{}.scored' "$url/v1/score"
jq --slurp --raw-output '"\(map(.rows[]) | length) rows scored"' "$folder"/*.scored

decision= after=
while [ -z "$decision" ]; do # a platform stores the cursor with the changes
    page=$(curl "$@" --retry 5 --max-time 60 "$url/v1/changes?wait=30$after")
    after="&after=$(echo "$page" | jq --raw-output .cursor)"
    decision=$(echo "$page" | jq --raw-output ".changes[] | select(.id == \"human-$run-1\") | \"\(.id) \(.type) level \(.level)\"")
done
echo "$decision"
