"""Write the figures in both READMEs from the newest rows under benchmarks/results/: `python -m benchmarks.readme`.

README.md gets the HEADLINES, benchmarks/README.md all of them and the plots.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu_column import gpu_figure
from benchmarks.load_lines import Line, growth_lines, limit_lines, load_lines
from benchmarks.provenance import ROOT, newest
from benchmarks.trend import judged

START, END = "<!-- figures: python -m benchmarks.readme -->", "<!-- end of figures -->"
PLOTS = ROOT / "benchmarks" / "plots"
SHOWN = {
    "load": "Latency against throughput under load",
    "split": "Queue and compute as arrivals grow",
    "growth": "Throughput and memory over tasks, rank, rows, length and threads",
    "limit": "Where the time of a served batch goes",
}
"""Plots beside the table, and what they show; the paper's and the peers' have sections of their own."""
HEADLINES = (
    "levels equal to PEFT's",
    "outcomes with other bits",
    "mean QWK",
    "512 SAF rows, 27 tasks mixed: openvino",
    "throughput kept beside the same graph without sites: all-MiniLM-L6-v2, openvino bfloat16",
    "2,048 SAF rows, 27 tasks mixed, against PEFT mixed batch",
    "scoremux bfloat16 against 27 models, torch, on demand",
    "rows/s over tasks",
    "1,000 resident tasks",
    "closed loop, gRPC",
    "requests that perf_analyzer",
    "share of the matmul peak of its precision, openvino bfloat16",
    "one row's round trip over gRPC",
    "publish to the first score",
    "`scoremux score`, 5,000,000",
    "SIGKILL of stub",
    "SIGKILL of tritonserver",
    "SIGSTOP of",
    "memory over",
    "two Tritons behind the front door",
    "100,000 malformed requests",
)
"""How the lines begin that README.md has."""


def lines() -> list[Line]:
    """Return (what, figure, command) for every result there is."""
    made: list[Line] = []
    for row in newest("saf_parity"):
        what = f"levels equal to PEFT's, {row['rows']} SAF test responses in shuffled mixed batches through Triton"
        worst = max(row["max_abs_logit_difference_served"], row["max_abs_logit_difference_engine"])
        made.append(
            (what, f"{row['levels_equal']}/{row['rows']}, max abs logit difference {worst:.1e}", row["command"])
        )
        changed = row["outcomes_changed_by_mix"] + row["outcomes_changed_by_restart"]
        what = f"outcomes with other bits: alone, reversed, in {row['mixes']} mixes, after a restart"
        made.append((what, str(changed), row["command"]))
    for row in newest("saf_quality"):
        for kind in ("mean", "pooled"):
            values = row[f"{kind}_qwk"]
            figure = f"{values['lora']:.3f} against {values['full']:.3f}"
            made.append((f"{kind} QWK on the SAF test split, LoRA against full fine-tuning", figure, row["command"]))
    for row in newest("bit_stability", "runner", "most_characters"):
        short = row.get("most_characters")
        what = f"other bits for one response in random mixes of 1–{row['most_rows']}, {row['runner']}"
        what += f", responses up to {short} characters" if short else ""
        command = f"{row['command']} --mixes {row['mixes']}" + (f" --most-characters {short}" if short else "")
        made.append((what, f"{row['changed']} of {row['mixes']:,} mixes", command))
    for row in newest("precisions"):
        for name, run in row["runners"].items():
            figure = f"{run['rows_per_s']:,.0f} rows/s, {run['times_openvino_float32']:.2f} × openvino float32"
            made.append((f"512 SAF rows, 27 tasks mixed: {name}", figure, row["command"]))
    for row in newest("lora_price", "encoder", "runner"):
        if "encoder" not in row:
            continue  # from before the encoder was named
        made.append(
            (
                f"throughput kept beside the same graph without sites: {row['encoder']}, {row['runner']}",
                f"{row['share']:.3f}",
                row["command"],
            )
        )
    for row in newest("peers", "peer"):
        if row["ours"] or "ours_times_as_fast" not in row:
            continue
        times = ", ".join(f"{value:.1f} × with {ours}" for ours, value in row["ours_times_as_fast"].items())
        made.append((f"{row['rows']:,} SAF rows, 27 tasks mixed, against {row['peer']}", times, row["command"]))
    for row in newest("paper"):
        for name, less in row["reductions"].items():
            figure = f"memory {less['rss_bytes']:+.0%}, latency {less['switching_ms']:+.0%}"
            made.append((f"scoremux bfloat16 against {name}, the task changes every time", figure, row["command"]))
    for row in newest("residency"):
        what = f"{row['tasks']:,} resident tasks against 27, traffic to all, {row['precision']}"
        figure = f"{row['share']:.3f} of the throughput; {row['times_adapter_file']:.2f} × its file a further task"
        made.append((what, figure, row["command"]))
    for row in newest("bank_budget", "tasks"):
        what = f"{row['tasks']:,} registered tasks, Zipf traffic, room for {row['slots']} against room for all"
        starts = ", ".join(f"{tasks} tasks {s:.1f} s" for tasks, s in row.get("start_s", {}).items())
        figure = f"{row['share']:.2f} of the throughput" + (f"; server start: {starts}" if starts else "")
        made.append((what, figure, f"{row['command']} --tasks {row['tasks']}"))
    for row in newest("live_tasks"):
        figure = f"{row['publish_ms_median']:.0f} ms median, {row['publish_ms_most']:.0f} ms at most"
        made.append(("publish to the first score by the new version, through Triton", figure, row["command"]))
        what = f"{sum(row['changes'].values()):,} publishes, rollbacks and retires under load, {row['rows']:,} rows"
        made.append((what, f"{row['failed']} failed, {row['wrong']} with other bits", row["command"]))
    for row in newest("client_throughput", "runner"):
        what = f"rows/s of client, gRPC and Triton beside the engine in process, {row['runner']}"
        made.append((what, f"{row['share']:.3f}", row["command"]))
    for row in newest("client_latency"):
        for name, run in row["protocols"].items():
            figure = f"{run['over_engine_p50_ms']:.1f} ms p50, {run['over_engine_p99_ms']:.1f} ms p99"
            made.append((f"one row's round trip over {name}, less the engine's time", figure, row["command"]))
    for row in newest("batch_stream", "kind"):
        figure = f"{row['rows_per_s']:,.0f} rows/s, {row['peak_mb']:.0f} MB at most"
        what = f"`scoremux score`, {row['rows']:,} rows of {row['kind']} against a stub server that answers at once"
        made.append((what, figure, row["command"]))
    for row in newest("soak", "rate"):
        load = f"{row['minutes']:.0f} minutes at {row['rate']:g} rows/s"
        what = f"memory over {load} with tasks changing, {row['scored']:,} rows"
        told = []
        for name, process in row["processes"].items():
            # Judged anew, so that rows of different days are judged alike.
            counted = process["minute_rss_mib"][int(row["warm_up"] * row["minutes"]) :]
            mib, per_h, noise, verdict = judged(counted)
            told.append(f"{name} {mib:.0f} MiB, {per_h:+.2f} ± {noise:.2f} an hour: {verdict}")
        made.append((what, "; ".join(told), row["command"]))
    for row in newest("batch_bounds", "case"):
        what = f"`scoremux score`, a hard file of {row['file_mb']:,.0f} MB: {row['case']}"
        made.append((what, f"{row['peak_mb']:.0f} MB at most, nothing lost", row["command"]))
    kills = newest("batch_kill", "seed")
    if kills:
        what = f"`kill -9` of the batch job at {sum(row['kills'] for row in kills)} random moments, resumed each time"
        figure = (
            f"{sum(row['different'] for row in kills)} of {sum(row['jobs'] for row in kills)} jobs with other output"
        )
        made.append((what, figure, "`, `".join(row["command"] for row in kills)))
    for row in newest("rsm"):
        kinds = " and ".join(f"{kind['qwk']:.3f} of {name}" for name, kind in row["kinds"].items())
        what = "`rsmeval` of RSMTool on the file of `scoremux evaluate --rsm`: n and QWK as ours"
        made.append((what, f"{row['rows']} rows, QWK {kinds}", row["command"]))
    for row in newest("client_import"):
        made.append(("`import scoremux_client`", f"{row['import_s']:.2f} s", row["command"]))
    for row in newest("healing", "strike"):
        what = f"{row['strike']}, {row['times']} times" + (" under load" if "lost" in row else "")
        left = f"{len(row['left_over'])} files left over"
        if "lost" in row:
            figure = (
                f"scoring again in {row['scoring_again_median_s']:.1f} s ({row['scoring_again_most_s']:.1f} at most), "
            )
            figure += f"{row['lost']} of {row['scored']:,} rows lost, {row['wrong']} wrong, {left}"
        else:
            figure = (
                f"ready again in {row['next_start_most_s']:.1f} s at most, {row['processes_left']} processes, {left}"
            )
        made.append((what, figure, row["command"]))
    for row in newest("two_tritons"):
        what = f"two Tritons behind the front door, {row['kills']} SIGKILLs in {row['seconds']:.0f} s under load"
        figure = f"{row['lost']} of {row['rows']:,} rows lost, {row['wrong']} wrong"
        made.append((what, f"{figure}, longest pause {row['longest_gap_s']:.1f} s", row["command"]))
    for row in newest("fuzz"):
        what = f"{row['requests']:,} malformed requests over gRPC and HTTP, but for two that kill the bundled Triton"
        figure = f"{len(row['bad'])} without an answer or an error sentence, {row['sentences']} different sentences"
        made.append((what, figure, row["command"]))
    made += [*load_lines(), *growth_lines(), *limit_lines()]
    return made


def headlines(all_lines: Sequence[Line]) -> list[str]:
    """Return README's table."""
    table = ["| what | 2 cores, no GPU | on a GPU | command |", "|---|---|---|---|"]
    chosen = [line for line in all_lines if line[0].startswith(HEADLINES)]
    return [*table, *(f"| {what} | {figure} | {gpu_figure(what)} | `{command}` |" for what, figure, command in chosen)]


def fill(page: Path, content: Sequence[str]) -> None:
    """Replace what stands between the marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    page.write_text("\n".join([before + START, "", *content, "", END]) + after, encoding="utf-8")


def plots(folder: str, names: Sequence[str]) -> list[str]:
    """Return the images of those plots that there are; `folder` as the page sees it."""
    there = [name for name in names if (PLOTS / f"{name}.svg").exists()]
    return [line for name in there for line in ("", f"![{SHOWN[name]}]({folder}/{name}.svg)")]


def main() -> None:
    made = lines()
    fill(ROOT / "README.md", [*headlines(made), *plots("benchmarks/plots", ["load"])])
    table = ["| what | figure | command |", "|---|---|---|"]
    table += [f"| {what} | {figure} | `{command}` |" for what, figure, command in made]
    fill(ROOT / "benchmarks" / "README.md", [*table, *plots("plots", list(SHOWN))])


if __name__ == "__main__":
    main()
